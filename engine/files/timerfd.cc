#include "engine/files/timerfd.h"

#include <sys/timerfd.h>
#include <time.h>

#include <optional>
#include <utility>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/event_files.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// TFD_IOC_SET_TICKS of <linux/timerfd.h>, which does not go together with the C library's header.
constexpr unsigned long kSetTicks = 0x4008'5400;
constexpr long kNanosecondsPerSecond = 1'000'000'000;

// "(12, 345)": seconds and nanoseconds.
std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_time(std::optional<std::string_view> text) {
  if (!text || !consume_prefix(*text, "(") || !text->ends_with(')')) return std::nullopt;
  text->remove_suffix(1);
  const auto seconds = parse_number<std::uint64_t>(take_until(*text, ','));
  const auto nanoseconds = parse_number<std::uint64_t>(trim(*text));
  if (!seconds || !nanoseconds) return std::nullopt;
  return std::pair(*seconds, *nanoseconds);
}

Result<::timespec> to_timespec(std::uint64_t seconds, std::uint64_t nanoseconds) {
  constexpr std::uint64_t kMaxSeconds = std::uint64_t{1} << 40;
  if (seconds > kMaxSeconds || nanoseconds >= kNanosecondsPerSecond)
    return fail(Error::corrupt(format("a time of {} s and {} ns", seconds, nanoseconds)));
  return ::timespec{static_cast<time_t>(seconds), static_cast<long>(nanoseconds)};
}

bool is_zero(const ::timespec& time) { return time.tv_sec == 0 && time.tv_nsec == 0; }

Result<> arm(int fd, const pb::timerfd_entry& entry) {
  ::itimerspec timer{};
  timer.it_value = TRY(to_timespec(entry.vsec(), entry.vnsec()));
  timer.it_interval = TRY(to_timespec(entry.isec(), entry.insec()));
  // It expired while it was being saved, and stood still then until somebody would read. A timer that nobody has armed
  // has no ticks: arming clears them.
  if (is_zero(timer.it_value) && entry.ticks() != 0) timer.it_value = timer.it_interval;
  int flags = 0;
  if (!is_zero(timer.it_value) && (entry.settime_flags() & TFD_TIMER_ABSTIME) != 0) {
    // Set absolutely again, as TFD_TIMER_CANCEL_ON_SET wants it.
    ::timespec now{};
    if (::clock_gettime(static_cast<clockid_t>(entry.clockid()), &now) != 0)
      return fail(Error::kernel("clock_gettime", errno));
    timer.it_value.tv_sec += now.tv_sec;
    timer.it_value.tv_nsec += now.tv_nsec;
    if (timer.it_value.tv_nsec >= kNanosecondsPerSecond) {
      timer.it_value.tv_nsec -= kNanosecondsPerSecond;
      ++timer.it_value.tv_sec;
    }
    flags = static_cast<int>(entry.settime_flags()) & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
  }
  TRY(sys::timerfd_settime(fd, flags, timer));
  // Arming has cleared what had expired and was not read yet.
  if (entry.ticks() == 0) return {};
  std::uint64_t ticks = entry.ticks();
  TRY(sys::ioctl(fd, kSetTicks, &ticks));
  return {};
}

}  // namespace

int TimerFile::type() const { return pb::TIMERFD; }

bool TimerFile::matches(const OpenFile& file) const { return file.link == "anon_inode:[timerfd]"; }

Result<> TimerFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  // Periods that have passed since the first expiry are counted only when somebody asks.
  itimerspec asked{};
  (void)::timerfd_gettime(file.fd.get(), &asked);
  const auto info = TRY(proc::parse_fdinfo(
      TRY(sys::read_file(AT_FDCWD, format("/proc/self/fdinfo/{}", file.fd.get())))));
  const auto clock = file.number_in_fdinfo("clockid", 10);
  const auto ticks = parse_number<std::uint64_t>(trim(info.value("ticks").value_or("")));
  const auto flags = file.number_in_fdinfo("settime flags", 8);
  const auto value = parse_time(info.value("it_value"));
  const auto interval = parse_time(file.info.value("it_interval"));
  if (!clock || !ticks || !flags || !value || !interval)
    return fail(file.blocked("has a state that the kernel does not tell", "use a newer kernel"));
  pb::file_entry record;
  record.set_type(pb::TIMERFD);
  record.set_id(id);
  pb::timerfd_entry* entry = record.mutable_tfd();
  entry->set_id(id);
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  entry->set_clockid(static_cast<std::uint32_t>(*clock));
  entry->set_ticks(*ticks);
  entry->set_settime_flags(static_cast<std::uint32_t>(*flags));
  entry->set_vsec(value->first);
  entry->set_vnsec(value->second);
  entry->set_isec(interval->first);
  entry->set_insec(interval->second);
  return saver.write(record);
}

Result<Fd> TimerFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::timerfd_entry& entry = record.tfd();
  const std::string object = format("timerfd of open file {}", entry.id());
  Fd file = TRY_OR(sys::timerfd_create(static_cast<int>(entry.clockid())), std::move(e).object(object));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()), std::move(e).object(object));
  waiting_[entry.id()] = TRY(sys::duplicate(file.get()));
  return file;
}

Result<> TimerFile::refill(FilesOpener& opener) {
  for (const auto& [id, file] : waiting_) {
    const pb::timerfd_entry& entry = opener.context().image.files.at(id).tfd();
    TRY_OR(arm(file.get(), entry), std::move(e).object(format("timerfd of open file {}", id)));
  }
  waiting_.clear();
  return {};
}

}  // namespace dormouse::engine
