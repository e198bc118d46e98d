// SPDX-License-Identifier: Apache-2.0
// The spool and the checkpoint store: what survives a crash.
#include <fcntl.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"
#include "services/policy_learner/checkpoint_store.h"
#include "services/policy_learner/rollout_spool.h"
#include "tests/support/temporary_directory.h"

namespace mpo::policy_learner {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

std::unique_ptr<RolloutSpool> Open(RolloutSpool::Options options) {
  auto spool = RolloutSpool::Open(options);
  REQUIRE(spool.ok());
  return *std::move(spool);
}

SpoolRecord Record(const std::string& key, int64_t step) {
  return {key, step, absl::StrCat("bytes of ", key, std::string(50, 'x'))};
}

TEST_CASE("The spool gives back what was appended, also after a restart",
          "[learner]") {
  const TemporaryDirectory dir;
  auto spool = Open({.directory = dir.path});
  const auto first = spool->Append({Record("a", 1), Record("b", 1)});
  REQUIRE(first.ok());
  CHECK(first->accepted == 2);
  const auto again =
      spool->Append({Record("b", 1), Record("c", 2), Record("c", 2)});
  REQUIRE(again.ok());
  CHECK(again->accepted == 1);
  CHECK(again->duplicates == 2);
  for (int i = 0; i < 2; ++i) {
    CHECK(spool->size() == 3);
    for (const char* key : {"a", "b", "c"}) {
      CHECK(*spool->Read(key) == Record(key, 0).bytes);
    }
    CHECK(spool->Read("d").status().code() == absl::StatusCode::kNotFound);
    spool.reset();
    spool = Open({.directory = dir.path});
  }
}

TEST_CASE("A torn tail is cut and everything before it stays", "[learner]") {
  const TemporaryDirectory dir;
  const fs::path file = dir.path / "00000001.spool";
  REQUIRE(Open({.directory = dir.path})->Append({Record("a", 1)}).ok());
  const uintmax_t whole = fs::file_size(file);
  REQUIRE(Open({.directory = dir.path})->Append({Record("b", 1)}).ok());
  const uintmax_t both = fs::file_size(file);
  for (uintmax_t size = whole + 1; size < both; size += 7) {
    const TemporaryDirectory copy;
    fs::copy(file, copy.path / file.filename());
    fs::resize_file(copy.path / file.filename(), size);
    auto spool = Open({.directory = copy.path});
    CHECK(spool->size() == 1);
    CHECK(fs::file_size(copy.path / file.filename()) == whole);
    // What comes next is readable after another restart.
    REQUIRE(spool->Append({Record("b", 1)}).ok());
    spool = Open({.directory = copy.path});
    CHECK(*spool->Read("b") == Record("b", 1).bytes);
  }
}

TEST_CASE("Damage before the tail is an error, not a cut", "[learner]") {
  const TemporaryDirectory dir;
  {
    auto spool = Open({.directory = dir.path, .segment_bytes = 1});
    REQUIRE(spool->Append({Record("a", 1)}).ok());
    REQUIRE(spool->Append({Record("b", 2)}).ok());
  }
  std::fstream file(dir.path / "00000001.spool",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(20);
  file.put('!');
  file.close();
  const auto spool = RolloutSpool::Open({.directory = dir.path});
  CHECK(spool.status().code() == absl::StatusCode::kDataLoss);
  CHECK_THAT(Message(spool.status()), Contains("00000001.spool"));
}

TEST_CASE("Damage with whole records after it deletes none of them",
          "[learner]") {
  const TemporaryDirectory dir;
  const fs::path file = dir.path / "00000001.spool";
  REQUIRE(Open({.directory = dir.path})
              ->Append({Record("a", 1), Record("b", 1), Record("c", 1)})
              .ok());
  const uintmax_t size = fs::file_size(file);
  // In the length and in the bytes of the second record.
  for (const int at : {1, 30}) {
    const TemporaryDirectory copy;
    const fs::path damaged = copy.path / file.filename();
    fs::copy(file, damaged);
    std::fstream out(damaged, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(size / 3) + at);
    out.put('\x7e');
    out.close();
    const auto spool = RolloutSpool::Open({.directory = copy.path});
    CHECK(spool.status().code() == absl::StatusCode::kDataLoss);
    CHECK_THAT(Message(spool.status()), Contains("damaged record at byte"));
    CHECK(fs::file_size(damaged) == size);
  }
}

TEST_CASE("Checkpoints that cannot be listed are not taken for none",
          "[learner]") {
  const TemporaryDirectory dir;
  const fs::path directory = dir.path / "checkpoints";
  std::ofstream(directory) << "a file in the directory's place";
  const CheckpointStore store({.directory = directory, .config_sha256 = "x"});
  CHECK(store.Newest().status().code() == absl::StatusCode::kUnavailable);
  CHECK_THAT(Message(store.Newest().status()), Contains("checkpoints"));
}

TEST_CASE("A full spool keeps nothing of the call", "[learner]") {
  const TemporaryDirectory dir;
  auto spool = Open({.directory = dir.path, .max_bytes = 200});
  REQUIRE(spool->Append({Record("a", 1)}).ok());
  const auto full = spool->Append({Record("b", 1), Record("c", 1)});
  CHECK(full.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(spool->size() == 1);
  CHECK(spool->Append({Record("b", 1)}).ok());
}

TEST_CASE("A full disk keeps nothing of the call", "[learner]") {
  const TemporaryDirectory dir;
  auto spool = Open({.directory = dir.path});
  REQUIRE(spool->Append({Record("a", 1)}).ok());
  // /dev/full answers every write with ENOSPC: put it in the segment's place.
  const int full = ::open("/dev/full", O_RDWR);
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const fs::path target = fs::read_symlink(entry.path(), gone);
    if (target == dir.path / "00000001.spool") {
      REQUIRE(::dup2(full, std::stoi(entry.path().filename())) >= 0);
    }
  }
  ::close(full);
  const auto status = spool->Append({Record("b", 1)}).status();
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK_THAT(Message(status), Contains("00000001.spool"));
  CHECK(spool->size() == 1);
  // With room again a new segment takes over.
  CHECK(spool->Append({Record("b", 1)})->accepted == 1);
  spool = Open({.directory = dir.path});
  CHECK(*spool->Read("a") == Record("a", 1).bytes);
  CHECK(*spool->Read("b") == Record("b", 1).bytes);
}

TEST_CASE("Segments go once their steps are covered", "[learner]") {
  const TemporaryDirectory dir;
  auto spool = Open({.directory = dir.path, .segment_bytes = 1});
  for (int step = 1; step <= 4; ++step) {
    REQUIRE(spool->Append({Record(absl::StrCat("k", step), step)}).ok());
  }
  REQUIRE(spool->DropThrough(2).ok());
  CHECK(spool->size() == 2);
  CHECK_FALSE(fs::exists(dir.path / "00000002.spool"));
  CHECK(fs::exists(dir.path / "00000003.spool"));
  // A late copy of a sample that was trained on is no news.
  CHECK(spool->Append({Record("k2", 2)})->duplicates == 1);
  REQUIRE(spool->DropThrough(4).ok());
  CHECK(spool->size() == 0);
  CHECK(spool->Append({Record("k5", 5)})->accepted == 1);
  CHECK(*spool->Read("k5") == Record("k5", 5).bytes);
}

TEST_CASE("Waiting for rollouts ends by arrival, deadline or stop",
          "[learner]") {
  const TemporaryDirectory dir;
  auto spool = Open({.directory = dir.path});
  REQUIRE(spool->Append({Record("a", 1)}).ok());
  const absl::Status late =
      spool->WaitFor({"a", "b"}, {}, absl::Milliseconds(1));
  CHECK(late.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK_THAT(Message(late), Contains("1 of 2") && Contains("'b'"));
  std::stop_source stop;
  stop.request_stop();
  CHECK(spool->WaitFor({"b"}, stop.get_token(), absl::Minutes(1)).code() ==
        absl::StatusCode::kCancelled);
  std::jthread writer([&] { CHECK(spool->Append({Record("b", 1)}).ok()); });
  CHECK(spool->WaitFor({"a", "b"}, {}, absl::Minutes(1)).ok());
}

CheckpointStore Store(const fs::path& path, std::string config = "c1",
                      int kept = 2) {
  return CheckpointStore({path, std::move(config), kept});
}

absl::Status Fill(const fs::path& directory, const std::string& content) {
  fs::create_directories(directory / "adapter");
  if (auto s = WriteFileAtomically(directory / "state", content); !s.ok())
    return s;
  return WriteFileAtomically(directory / "adapter" / "weights",
                             absl::StrCat("w", content));
}

void Write(CheckpointStore& store, int64_t step) {
  const auto written = store.Write(step, 100, [&](const fs::path& directory) {
    return Fill(directory, std::to_string(step));
  });
  REQUIRE(written.ok());
  CHECK(written->step == step);
}

TEST_CASE("The newest checkpoint is found and old ones go", "[learner]") {
  const TemporaryDirectory dir;
  CheckpointStore store = Store(dir.path);
  CHECK_FALSE(store.Newest()->has_value());
  CHECK(store.OldestStep() == 0);
  for (int64_t step : {8, 9, 10}) Write(store, step);
  CHECK((*store.Newest())->step == 10);
  CHECK(store.OldestStep() == 9);
  CHECK_FALSE(fs::exists(dir.path / "step_8"));
  CHECK(*ReadFile(dir.path / "step_10" / "state") == "10");
}

TEST_CASE("Checkpoints of every m-th step stay beside the newest",
          "[learner]") {
  const TemporaryDirectory dir;
  CheckpointStore store({.directory = dir.path,
                         .config_sha256 = "config-one",
                         .kept = 2,
                         .keep_every = 3});
  for (int64_t step = 1; step <= 8; ++step) Write(store, step);
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(dir.path)) {
    left.insert(entry.path().filename());
  }
  CHECK(left == std::set<std::string>{"step_3", "step_6", "step_7", "step_8"});
  CHECK(store.OldestStep() == 7);  // What a restart falls back to.
  const auto read = CheckpointStore::Read(dir.path / "step_3");
  REQUIRE(read.ok());
  CHECK(read->step == 3);
  CHECK(absl::IsNotFound(CheckpointStore::Read(dir.path / "step_4").status()));
}

TEST_CASE("A damaged checkpoint gives way to the one before", "[learner]") {
  const TemporaryDirectory dir;
  CheckpointStore store = Store(dir.path);
  Write(store, 1);
  Write(store, 2);
  const fs::path newest = dir.path / "step_2";
  SECTION("changed file") {
    REQUIRE(WriteFileAtomically(newest / "adapter" / "weights", "w3").ok());
  }
  SECTION("missing file") { fs::remove(newest / "state"); }
  SECTION("cut manifest") { fs::resize_file(newest / "MANIFEST.json", 20); }
  SECTION("no manifest") { fs::remove(newest / "MANIFEST.json"); }
  CHECK((*store.Newest())->step == 1);
  Write(store, 2);  // Training comes by again.
  CHECK((*store.Newest())->step == 2);
}

TEST_CASE("With all checkpoints damaged there is no silent start from zero",
          "[learner]") {
  const TemporaryDirectory dir;
  CheckpointStore store = Store(dir.path);
  Write(store, 1);
  Write(store, 2);
  fs::remove(dir.path / "step_2" / "state");
  fs::remove(dir.path / "step_1" / "MANIFEST.json");
  CHECK(store.Newest().status().code() == absl::StatusCode::kDataLoss);
}

TEST_CASE("A checkpoint of another configuration or format is refused",
          "[learner]") {
  const TemporaryDirectory dir;
  CheckpointStore store = Store(dir.path, "config-one");
  Write(store, 1);
  const auto other = Store(dir.path, "config-two").Newest();
  CHECK(other.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(Message(other.status()),
             Contains("config-one") && Contains("config-two"));
  const fs::path manifest = dir.path / "step_1" / "MANIFEST.json";
  std::string text = *ReadFile(manifest);
  const std::string version = "\"format_version\": 1";
  text[text.find(version) + version.size() - 1] = '9';
  REQUIRE(WriteFileAtomically(manifest, text).ok());
  const auto format = store.Newest();
  CHECK(format.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(Message(format.status()), Contains("format version 9"));
}

TEST_CASE("A checkpoint that cannot be finished leaves nothing", "[learner]") {
  const TemporaryDirectory dir;
  CheckpointStore store = Store(dir.path);
  const auto full = store.Write(1, uint64_t{1} << 62, [](const fs::path&) {
    FAIL("nothing may be written");
    return absl::OkStatus();
  });
  CHECK(full.status().code() == absl::StatusCode::kResourceExhausted);
  const auto broken = store.Write(1, 1, [](const fs::path& directory) {
    CHECK(Fill(directory, "half").ok());
    return absl::UnavailableError("pulled the plug");
  });
  CHECK(broken.status().code() == absl::StatusCode::kUnavailable);
  CHECK(fs::is_empty(dir.path));
  // What a crash left behind is in nobody's way.
  fs::create_directories(dir.path / "step_1.tmp" / "old");
  Write(store, 1);
  CHECK((*store.Newest())->step == 1);
  CHECK_FALSE(fs::exists(dir.path / "step_1.tmp"));
}

}  // namespace
}  // namespace mpo::policy_learner
