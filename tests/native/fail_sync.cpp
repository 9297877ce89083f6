// Preloaded by tests/test_ring_faults.py: every FAIL_EVERY-th fdatasync of the process answers EIO.
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int fdatasync(int fd) {
  static int calls = 0;
  const char* every = getenv("FAIL_EVERY");
  if (every != nullptr && ++calls % atoi(every) == 0) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}
