"""For all packages: the result of a test does not depend on the load of the machine or on how the tests were started."""

import signal

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

# A shell that starts tests in the background lets them, and all processes that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
