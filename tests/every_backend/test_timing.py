"""`cifarnet doctor` times the backend under which the suite runs."""

from cifarnet.apps.doctor import fastest, time_backend
from cifarnet.backends import choose


def test_the_doctor_times_this_backend_in_a_process_of_its_own():
    timing = time_backend(choose())
    assert timing.failure == ""
    assert timing.images_per_s > 0
    assert timing.devices
    assert fastest([timing]) == choose()
