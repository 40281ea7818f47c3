"""How contenders are started, given turns and written down, whatever is measured."""
