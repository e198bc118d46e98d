// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct sqlite3;
struct sqlite3_stmt;

namespace mpo::store {

// One bound parameter: NULL, integer, real or text. uint64_t keeps its 64
// bits (stored as int64_t). Text is copied by SQLite when bound.
class Value {
 public:
  Value(std::nullopt_t) {}                                  // NOLINT
  Value(int v) : kind_(Kind::kInteger), integer_(v) {}      // NOLINT
  Value(int64_t v) : kind_(Kind::kInteger), integer_(v) {}  // NOLINT
  Value(uint64_t v)                                         // NOLINT
      : kind_(Kind::kInteger), integer_(static_cast<int64_t>(v)) {}
  Value(bool v) : kind_(Kind::kInteger), integer_(v ? 1 : 0) {}  // NOLINT
  Value(double v) : kind_(Kind::kReal), real_(v) {}              // NOLINT
  Value(std::string_view v) : kind_(Kind::kText), text_(v) {}    // NOLINT
  Value(const std::string& v) : kind_(Kind::kText), text_(v) {}  // NOLINT
  Value(const char* v) : kind_(Kind::kText), text_(v) {}         // NOLINT
  template <typename T>
  Value(const std::optional<T>& v) {  // NOLINT
    if (v.has_value()) *this = Value(*v);
  }

 private:
  friend class Database;
  enum class Kind { kNull, kInteger, kReal, kText };
  Kind kind_ = Kind::kNull;
  int64_t integer_ = 0;
  double real_ = 0;
  std::string_view text_;
};

// One result row; valid only inside the callback that receives it. Columns
// count from 0. NULL reads as 0 or "" except through the optional readers.
class Row {
 public:
  int64_t Int(int column) const;
  uint64_t Unsigned(int column) const {
    return static_cast<uint64_t>(Int(column));
  }
  bool Bool(int column) const { return Int(column) != 0; }
  double Real(int column) const;
  std::string Text(int column) const;
  bool IsNull(int column) const;
  std::optional<int64_t> OptionalInt(int column) const;
  std::optional<double> OptionalReal(int column) const;
  std::optional<std::string> OptionalText(int column) const;

 private:
  friend class Database;
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  sqlite3_stmt* statement_;
};

struct Options {
  bool read_only = false;
  absl::Duration busy_timeout = absl::Seconds(5);
};

// One SQLite connection: write-ahead log, synchronous=FULL, foreign keys on,
// statements prepared once and reused. Not thread-safe: guard it with the
// mutex of its owner.
//
// Errors of every call: RESOURCE_EXHAUSTED when the disk is full, DATA_LOSS
// when the file is corrupt or no database, UNAVAILABLE when it is locked or
// cannot be read or written, ALREADY_EXISTS when a UNIQUE or PRIMARY KEY
// constraint fails, FAILED_PRECONDITION for any other constraint or a write to
// a read-only database, INTERNAL for a statement SQLite does not understand.
// Messages name the file.
class Database {
 public:
  // Creates the file unless read_only. ":memory:" lives as long as the object.
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const std::filesystem::path& path, const Options& options = {});
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Brings the schema to version migrations.size(): script i leads from
  // user_version i to i + 1, each in its own transaction. FAILED_PRECONDITION
  // when the file is of a later version; read-only databases must match.
  absl::Status Migrate(const std::vector<std::string>& migrations);
  absl::StatusOr<int64_t> SchemaVersion();

  // Runs one statement that returns no rows; the number of rows it changed.
  template <typename... Args>
  absl::StatusOr<int64_t> Run(const char* sql, const Args&... args) {
    return RunBound(sql, {Value(args)...});
  }

  // Runs a query and calls `on_row` for each row, in order.
  template <typename... Args>
  absl::Status Query(const char* sql,
                     const std::function<void(const Row&)>& on_row,
                     const Args&... args) {
    return QueryBound(sql, {Value(args)...}, on_row);
  }

  // First column of the first row as integer; nullopt when there is no row or
  // it is NULL.
  template <typename... Args>
  absl::StatusOr<std::optional<int64_t>> QueryInt(const char* sql,
                                                  const Args&... args) {
    std::optional<int64_t> value;
    bool first = true;
    absl::Status status =
        QueryBound(sql, {Value(args)...}, [&value, &first](const Row& row) {
          if (first) value = row.OptionalInt(0);
          first = false;
        });
    if (!status.ok()) return status;
    return value;
  }

 private:
  friend class Transaction;
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  Database(sqlite3* handle, std::string path)
      : handle_(handle), path_(std::move(path)) {}

  absl::Status Error(const char* action) const;
  absl::Status Script(const char* sql);
  absl::StatusOr<sqlite3_stmt*> Prepare(const char* sql);
  absl::StatusOr<sqlite3_stmt*> Bind(const char* sql,
                                     const std::vector<Value>& values);
  absl::StatusOr<int64_t> RunBound(const char* sql,
                                   const std::vector<Value>& values);
  absl::Status QueryBound(const char* sql, const std::vector<Value>& values,
                          const std::function<void(const Row&)>& on_row);

  sqlite3* handle_;
  const std::string path_;
  // Keyed by text: the same statement may be spelled at several places.
  std::map<std::string, std::unique_ptr<sqlite3_stmt, Finalizer>, std::less<>>
      statements_;
  bool in_transaction_ = false;
};

// Write transaction (BEGIN IMMEDIATE) that rolls back unless committed. A
// transaction begun inside another one is INTERNAL. Not thread-safe.
class Transaction {
 public:
  static absl::StatusOr<Transaction> Begin(Database& database);
  Transaction(Transaction&& other) noexcept
      : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  // After a failed commit nothing of the transaction is kept.
  absl::Status Commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace mpo::store
