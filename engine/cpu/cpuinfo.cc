#include "engine/cpu/cpuinfo.h"

#include <fcntl.h>

#include <cerrno>

#include "engine/cpu/cpu_check.h"
#include "engine/cpu/cpuid_words.h"
#include "images/schema/cpu.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

Result<pb::cpuinfo_entry> own_record() {
  pb::cpuinfo_entry record;
  *record.add_x86_entry() = describe_cpu();
  if (record.x86_entry(0).vendor_id() == pb::cpuinfo_x86_entry::UNKNOWN)
    return fail(Error::unsupported("the image format knows only Intel's and AMD's").object("CPU"));
  return record;
}

}  // namespace

Result<> save_cpu(images::OutputDirectory& out) {
  const pb::cpuinfo_entry record = TRY(own_record());
  return out.write(images::kCpuinfo, std::nullopt, record);
}

Result<> save_cpu(int images_dir) {
  const pb::cpuinfo_entry record = TRY(own_record());
  return images::write_unlisted(images_dir, images::kCpuinfo, record);
}

Result<> check_cpu(int images_dir, const CpuChecks& checks) {
  if (const auto there = sys::openat(images_dir, images::file_name(images::kCpuinfo), O_PATH);
      !there && there.error().is_kernel(ENOENT))
    return fail(Error::corrupt("the CPU that it was made on was not recorded")
                    .object("cpuinfo.img")
                    .remedy("give --cpu-cap to the dump too, or --cpu-cap=none here"));
  auto reader = TRY(images::open_unlisted(images_dir, images::kCpuinfo));
  pb::cpuinfo_entry record;
  if (!TRY(reader.next(record))) return fail(Error::corrupt("no record of a CPU").object("cpuinfo.img"));
  return check_cpu(record, describe_cpu(), checks);
}

}  // namespace dormouse::engine
