// Preloaded by tests/test_logs.py: fdatasync does not return while the file that STALL_WHILE names exists.
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int fdatasync(int fd) {
  const char* file = getenv("STALL_WHILE");
  while (file != nullptr && access(file, F_OK) == 0) usleep(1000);
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}
