#include "engine/task/keyrings.h"

#include <linux/keyctl.h>
#include <sys/syscall.h>

namespace dormouse::engine {
namespace {

// How many bytes of key ids there are. ENOKEY: no such keyring, which is not made for being asked about; EPERM, ENOSYS: nor
// could it be used.
parasite::OpRef ask(parasite::Program& program, int keyring) {
  return program.call("ask for keys", SYS_keyctl, {KEYCTL_READ, keyring, 0, 0, 0}, parasite::anything());
}

Failure has_keys(const char* keyring) {
  return fail(Error::unsupported("it holds keys, which go with their owner").object(keyring)
                  .remedy("keep them in the session's keyring instead"));
}

}  // namespace

KeyringsAsked ask_keyrings(parasite::Program& program, bool leader) {
  KeyringsAsked asked{ask(program, KEY_SPEC_THREAD_KEYRING), std::nullopt};
  if (leader) asked.process = ask(program, KEY_SPEC_PROCESS_KEYRING);
  return asked;
}

Result<> refuse_keys(const parasite::Placed& placed, const KeyringsAsked& asked) {
  if (placed.result(asked.thread) > 0) return has_keys("keyring of a thread");
  if (asked.process && placed.result(*asked.process) > 0) return has_keys("keyring of the process");
  return {};
}

}  // namespace dormouse::engine
