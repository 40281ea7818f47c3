"""A Git LFS pointer, which stands in for a file until it is fetched."""

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234567\n"
