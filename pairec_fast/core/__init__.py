"""The compiled core. Pointers live here and nowhere else: check, drop the GIL, call, count."""
