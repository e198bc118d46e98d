// SPDX-License-Identifier: Apache-2.0
#include "mpo/store/database.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace mpo::store {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kSchema = {
    "CREATE TABLE t(id INTEGER PRIMARY KEY, x INTEGER, r REAL, s TEXT UNIQUE)",
    "CREATE TABLE child(t INTEGER NOT NULL REFERENCES t(id))"};

fs::path FreshFile() {
  const fs::path path = fs::temp_directory_path() /
                        absl::StrCat("mpo_store_test_", getpid(), ".sqlite");
  for (const char* suffix : {"", "-wal", "-shm"}) {
    fs::remove(path.string() + suffix);
  }
  return path;
}

std::unique_ptr<Database> Opened(const fs::path& path,
                                 const Options& options = {}) {
  auto database = Database::Open(path, options);
  REQUIRE(database.ok());
  REQUIRE((*database)->Migrate(kSchema).ok());
  return *std::move(database);
}

int64_t Count(Database& database) {
  auto count = database.QueryInt("SELECT count(*) FROM t");
  REQUIRE(count.ok());
  return count->value_or(-1);
}

}  // namespace

TEST_CASE("Database returns every bound type unchanged", "[store]") {
  auto database = Opened(":memory:");
  const uint64_t large = 0xFEDCBA9876543210U;
  const std::string text("a\0b'\xC3\xA4", 6);
  REQUIRE(
      database
          ->Run("INSERT INTO t VALUES(?,?,?,?)", int64_t{1}, large, 0.1, text)
          .ok());
  REQUIRE(database
              ->Run("INSERT INTO t VALUES(?,?,?,?)", 2, std::nullopt,
                    std::optional<double>(), "")
              .ok());
  int rows = 0;
  REQUIRE(database
              ->Query("SELECT x, r, s FROM t ORDER BY id",
                      [&](const Row& row) {
                        if (rows++ == 0) {
                          CHECK(row.Unsigned(0) == large);
                          CHECK(row.Real(1) == 0.1);
                          CHECK(row.Text(2) == text);
                          CHECK(row.OptionalInt(0).has_value());
                        } else {
                          CHECK(row.IsNull(0));
                          CHECK_FALSE(row.OptionalReal(1).has_value());
                          CHECK(row.OptionalText(2) == "");
                        }
                      })
              .ok());
  CHECK(rows == 2);
}

TEST_CASE("Database keeps only committed transactions", "[store]") {
  const fs::path path = FreshFile();
  {
    auto database = Opened(path);
    {
      auto transaction = Transaction::Begin(*database);
      REQUIRE(transaction.ok());
      REQUIRE(database->Run("INSERT INTO t(id) VALUES(1)").ok());
      CHECK(absl::IsInternal(Transaction::Begin(*database).status()));
      REQUIRE(transaction->Commit().ok());
    }
    {
      auto transaction = Transaction::Begin(*database);
      REQUIRE(transaction.ok());
      REQUIRE(database->Run("INSERT INTO t(id) VALUES(2)").ok());
    }
    CHECK(Count(*database) == 1);
  }
  CHECK(Count(*Opened(path)) == 1);
}

TEST_CASE("Database turns constraint failures into statuses", "[store]") {
  auto database = Opened(":memory:");
  REQUIRE(database->Run("INSERT INTO t(id, s) VALUES(1, 'a')").ok());
  CHECK(absl::IsAlreadyExists(
      database->Run("INSERT INTO t(id, s) VALUES(1, 'b')").status()));
  CHECK(absl::IsAlreadyExists(
      database->Run("INSERT INTO t(id, s) VALUES(2, 'a')").status()));
  CHECK(absl::IsFailedPrecondition(
      database->Run("INSERT INTO child VALUES(9)").status()));
  CHECK(absl::IsInternal(database->Run("SELEC").status()));
  CHECK(absl::IsInternal(database->Run("DELETE FROM t WHERE id=?").status()));
  CHECK(*database->Run("UPDATE t SET x=5 WHERE id=1") == 1);
}

TEST_CASE("Database reports a full disk as resource exhausted", "[store]") {
  auto database = Opened(FreshFile());
  REQUIRE(database->QueryInt("PRAGMA max_page_count=8").ok());
  const std::string large(100000, 'x');
  CHECK(absl::IsResourceExhausted(
      database->Run("INSERT INTO t(id, s) VALUES(1, ?)", large).status()));
  {
    auto transaction = Transaction::Begin(*database);
    REQUIRE(transaction.ok());
    CHECK(absl::IsResourceExhausted(
        database->Run("INSERT INTO t(id, s) VALUES(1, ?)", large).status()));
  }
  CHECK(Count(*database) == 0);
  CHECK(database->Run("INSERT INTO t(id, s) VALUES(1, 'x')").ok());
}

TEST_CASE("Database reports a file that is no database as data loss",
          "[store]") {
  const fs::path path = FreshFile();
  std::ofstream(path) << std::string(4096, 'z');
  CHECK(absl::IsDataLoss(Database::Open(path).status()));
}

TEST_CASE("Database reports a locked file as unavailable", "[store]") {
  const fs::path path = FreshFile();
  auto first = Opened(path);
  auto second = Opened(path, {.busy_timeout = absl::ZeroDuration()});
  auto transaction = Transaction::Begin(*first);
  REQUIRE(transaction.ok());
  CHECK(absl::IsUnavailable(Transaction::Begin(*second).status()));
}

TEST_CASE("Database refuses to write when opened read-only", "[store]") {
  const fs::path path = FreshFile();
  CHECK(
      absl::IsUnavailable(Database::Open(path, {.read_only = true}).status()));
  auto writer = Opened(path);
  REQUIRE(writer->Run("INSERT INTO t(id) VALUES(1)").ok());
  auto reader = Opened(path, {.read_only = true});
  CHECK(Count(*reader) == 1);
  CHECK(absl::IsFailedPrecondition(
      reader->Run("INSERT INTO t(id) VALUES(2)").status()));
}

TEST_CASE(
    "Database::Migrate continues where the file is and refuses the future",
    "[store]") {
  const fs::path path = FreshFile();
  {
    auto database = Database::Open(path);
    REQUIRE(database.ok());
    REQUIRE((*database)->Migrate({kSchema[0]}).ok());
    CHECK(*(*database)->SchemaVersion() == 1);
  }
  auto database = Opened(path);
  CHECK(*database->SchemaVersion() == 2);
  CHECK(database->Migrate(kSchema).ok());
  CHECK(absl::IsFailedPrecondition(database->Migrate({kSchema[0]})));
  CHECK(absl::IsInternal(
      database->Migrate({kSchema[0], kSchema[1], "CREATE TABLE x(", ""})));
  CHECK(*database->SchemaVersion() == 2);
}

}  // namespace mpo::store
