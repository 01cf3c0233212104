// lock: terminals
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <string>

#include "tests/workloads/terminals.h"

namespace {

struct Pair {
  int master, slave;
};

Pair open_pair() {
  const Master master = open_master();
  return {master.fd, MUST(open(master.slave.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC))};
}

// The kernel hands on what is written in a moment of its own.
bool has_input(int fd) {
  pollfd asked{fd, POLLIN, 0};
  return MUST(poll(&asked, 1, 200)) == 1;
}

void put(int fd, std::string_view text) { CHECK_EQ(MUST(write(fd, text.data(), text.size())), static_cast<ssize_t>(text.size())); }

std::string get(int fd) {
  CHECK(has_input(fd));
  char text[4096];
  return std::string(text, static_cast<size_t>(MUST(read(fd, text, sizeof text))));
}

std::string get_all(int fd, size_t bytes) {
  std::string all;
  while (all.size() < bytes) all += get(fd);
  return all;
}

}  // namespace

WORKLOAD("what was typed and printed but not read yet waits in its terminal: lines, ends of input, half a line") {
  const Pair lines = open_pair();
  put(lines.master, "first\rsecond\r\x04half\x04typ");  // return; an end of input at once, and one behind "half"
  const Pair raw = open_pair();
  termios settings{};
  MUST(tcgetattr(raw.slave, &settings));
  cfmakeraw(&settings);
  settings.c_cc[VMIN] = 10;
  MUST(tcsetattr(raw.slave, TCSANOW, &settings));
  put(raw.master, "\x03\r\n\x7f\x04 raw");
  put(raw.slave, "out\r\n");
  const Pair packets = open_pair();
  int on = 1;
  MUST(ioctl(packets.master, TIOCPKT, &on));
  put(packets.slave, "line\n");
  CHECK(has_input(lines.slave) && has_input(raw.master) && has_input(packets.master));
  usleep(20'000);

  workload::checkpoint_here();
  put(lines.master, "ed\r");
  CHECK(get(lines.slave) == "first\n");
  CHECK(get(lines.slave) == "second\n");
  CHECK(get(lines.slave) == "");
  CHECK(get(lines.slave) == "half");
  CHECK(get(lines.slave) == "typed\n");
  // What was typed is shown once, no second time because of the checkpoint.
  const std::string_view shown = "first\r\nsecond\r\nhalftyped\r\n";
  CHECK(get_all(lines.master, shown.size()) == shown);
  put(raw.master, "!");
  CHECK(get(raw.slave) == "\x03\r\n\x7f\x04 raw!");
  CHECK(get(raw.master) == "out\r\n");
  const char packet[] = "\0line\r\n";
  CHECK(get(packets.master) == std::string(packet, sizeof packet - 1));
  CHECK(!has_input(lines.master) && !has_input(raw.master) && !has_input(packets.master) && !has_input(raw.slave));
  MUST(tcgetattr(raw.slave, &settings));
  CHECK_EQ(settings.c_cc[VMIN], 10);
  MUST(tcgetattr(lines.slave, &settings));
  CHECK((settings.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG) && settings.c_cc[VEOF] == 4);
}
