#include <termios.h>

#include "tests/workloads/terminals.h"

// More cannot be taken out and put back in one piece: what waits behind it would come in between.
WORKLOAD("has a terminal in which as much waits as fits") {
  const Master master = open_master();
  const int slave = MUST(open(master.slave.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  termios settings{};
  MUST(tcgetattr(slave, &settings));
  cfmakeraw(&settings);
  MUST(tcsetattr(slave, TCSANOW, &settings));
  char text[6000];
  for (size_t i = 0; i < sizeof text; ++i) text[i] = static_cast<char>('a' + i % 26);
  for (size_t done = 0; done < sizeof text;) done += static_cast<size_t>(MUST(write(master.fd, text + done, sizeof text - done)));
  usleep(50'000);
  workload::checkpoint_here();
  char got[sizeof text];
  for (size_t done = 0; done < sizeof got;) done += static_cast<size_t>(MUST(read(slave, got + done, sizeof got - done)));
  CHECK(memcmp(got, text, sizeof got) == 0);
}
