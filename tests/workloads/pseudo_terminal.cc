// lock: terminals
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "tests/workloads/terminals.h"

WORKLOAD("a pseudo terminal keeps its two sides, settings, size and who controls it") {
  const auto [master, name] = open_master();
  const winsize size{33, 99, 0, 0};
  MUST(ioctl(master, TIOCSWINSZ, &size));
  const pid_t child = workload::fork_child([&] {
    close(master);
    MUST(setsid());
    const int slave = MUST(open(name.c_str(), O_RDWR));  // becomes the controlling terminal
    termios settings{};
    MUST(tcgetattr(slave, &settings));
    cfmakeraw(&settings);
    settings.c_cc[VMIN] = 3;
    MUST(tcsetattr(slave, TCSANOW, &settings));
    workload::checkpoint_here();
    MUST(tcgetattr(slave, &settings));
    CHECK_EQ(settings.c_lflag & (ICANON | ECHO), 0u);
    CHECK_EQ(settings.c_cc[VMIN], 3);
    CHECK_EQ(tcgetsid(slave), getpid());
    MUST(write(slave, "from the slave", 14));
  });
  workload::checkpoint_here();
  winsize now{};
  MUST(ioctl(master, TIOCGWINSZ, &now));
  CHECK(now.ws_row == 33 && now.ws_col == 99);
  workload::join(child);
  char got[32];
  CHECK_EQ(MUST(read(master, got, sizeof got)), 14);
}
