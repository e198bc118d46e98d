// SPDX-License-Identifier: Apache-2.0
#include "mpo/store/database.h"

#include <sqlite3.h>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::store {
namespace {

absl::Status FromCode(int extended, const std::string& text) {
  switch (extended & 0xFF) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(text);
    case SQLITE_CONSTRAINT:
      if (extended == SQLITE_CONSTRAINT_UNIQUE ||
          extended == SQLITE_CONSTRAINT_PRIMARYKEY ||
          extended == SQLITE_CONSTRAINT_ROWID) {
        return absl::AlreadyExistsError(text);
      }
      return absl::FailedPreconditionError(text);
    case SQLITE_READONLY:
      return absl::FailedPreconditionError(text);
    case SQLITE_ERROR:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
      return absl::InternalError(text);
    default:  // BUSY, LOCKED, CANTOPEN, IOERR, ...
      return absl::UnavailableError(text);
  }
}

}  // namespace

int64_t Row::Int(int column) const {
  return sqlite3_column_int64(statement_, column);
}
double Row::Real(int column) const {
  return sqlite3_column_double(statement_, column);
}
std::string Row::Text(int column) const {
  const auto* text = sqlite3_column_text(statement_, column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text),
          static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}
bool Row::IsNull(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}
std::optional<int64_t> Row::OptionalInt(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Int(column);
}
std::optional<double> Row::OptionalReal(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Real(column);
}
std::optional<std::string> Row::OptionalText(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Text(column);
}

void Database::Finalizer::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(
    const std::filesystem::path& path, const Options& options) {
  const int flags =
      SQLITE_OPEN_NOMUTEX |
      (options.read_only ? SQLITE_OPEN_READONLY
                         : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  // SQLite hands out a handle even on failure; it owns the error text.
  std::unique_ptr<Database> database(new Database(handle, path.string()));
  if (handle == nullptr) return absl::UnavailableError("sqlite: out of memory");
  if (code != SQLITE_OK) return database->Error("open");
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(
      handle,
      static_cast<int>(absl::ToInt64Milliseconds(options.busy_timeout)));
  if (!options.read_only) {
    MPO_RETURN_IF_ERROR(database->Script("PRAGMA journal_mode=WAL"));
    MPO_RETURN_IF_ERROR(database->Script("PRAGMA synchronous=FULL"));
  }
  MPO_RETURN_IF_ERROR(database->Script("PRAGMA foreign_keys=ON"));
  // Reads the header, so that a file that is no database fails here.
  MPO_RETURN_IF_ERROR(database->SchemaVersion().status());
  return database;
}

Database::~Database() {
  statements_.clear();
  sqlite3_close(handle_);
}

absl::Status Database::Error(const char* action) const {
  return FromCode(
      sqlite3_extended_errcode(handle_),
      absl::StrCat(path_, ": ", action, ": ", sqlite3_errmsg(handle_)));
}

absl::Status Database::Script(const char* sql) {
  if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return Error(sql);
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Database::SchemaVersion() {
  MPO_ASSIGN_OR_RETURN(const std::optional<int64_t> version,
                       QueryInt("PRAGMA user_version"));
  return version.value_or(0);
}

absl::Status Database::Migrate(const std::vector<std::string>& migrations) {
  MPO_ASSIGN_OR_RETURN(const int64_t found, SchemaVersion());
  const auto wanted = static_cast<int64_t>(migrations.size());
  const bool read_only = sqlite3_db_readonly(handle_, "main") == 1;
  if (found > wanted || (read_only && found != wanted)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": expected schema version ", wanted, ", found ", found,
        found > wanted ? "; written by a newer program" : ""));
  }
  for (int64_t version = found; version < wanted; ++version) {
    MPO_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*this));
    MPO_RETURN_IF_ERROR(
        Script(migrations[static_cast<size_t>(version)].c_str()));
    MPO_RETURN_IF_ERROR(
        Script(absl::StrCat("PRAGMA user_version=", version + 1).c_str()));
    MPO_RETURN_IF_ERROR(transaction.Commit());
  }
  return absl::OkStatus();
}

absl::StatusOr<sqlite3_stmt*> Database::Prepare(const char* sql) {
  const auto known = statements_.find(sql);
  if (known != statements_.end()) return known->second.get();
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT,
                         &statement, nullptr) != SQLITE_OK) {
    return Error(sql);
  }
  statements_[sql].reset(statement);
  return statement;
}

absl::StatusOr<sqlite3_stmt*> Database::Bind(const char* sql,
                                             const std::vector<Value>& values) {
  MPO_ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Prepare(sql));
  const int parameters = sqlite3_bind_parameter_count(statement);
  if (parameters != static_cast<int>(values.size())) {
    return absl::InternalError(absl::StrCat(
        sql, ": expected ", parameters, " parameters, got ", values.size()));
  }
  int index = 0;
  for (const Value& value : values) {
    ++index;
    int code = SQLITE_OK;
    switch (value.kind_) {
      case Value::Kind::kNull:
        code = sqlite3_bind_null(statement, index);
        break;
      case Value::Kind::kInteger:
        code = sqlite3_bind_int64(statement, index, value.integer_);
        break;
      case Value::Kind::kReal:
        code = sqlite3_bind_double(statement, index, value.real_);
        break;
      case Value::Kind::kText:
        code = sqlite3_bind_text64(
            statement, index,
            value.text_.data() == nullptr ? "" : value.text_.data(),
            value.text_.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
        break;
    }
    if (code != SQLITE_OK) return Error(sql);
  }
  return statement;
}

absl::Status Database::QueryBound(
    const char* sql, const std::vector<Value>& values,
    const std::function<void(const Row&)>& on_row) {
  MPO_ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Bind(sql, values));
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) on_row(Row(statement));
  const absl::Status status =
      code == SQLITE_DONE ? absl::OkStatus() : Error(sql);
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return status;
}

absl::StatusOr<int64_t> Database::RunBound(const char* sql,
                                           const std::vector<Value>& values) {
  MPO_RETURN_IF_ERROR(QueryBound(sql, values, [](const Row&) {}));
  return static_cast<int64_t>(sqlite3_changes(handle_));
}

absl::StatusOr<Transaction> Transaction::Begin(Database& database) {
  if (database.in_transaction_) {
    return absl::InternalError(
        absl::StrCat(database.path_, ": a transaction is already open"));
  }
  MPO_ASSIGN_OR_RETURN(const int64_t changed, database.Run("BEGIN IMMEDIATE"));
  static_cast<void>(changed);
  database.in_transaction_ = true;
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ == nullptr) return;
  // A full disk may have ended it already; then there is nothing to undo.
  if (sqlite3_get_autocommit(database_->handle_) == 0) {
    database_->Run("ROLLBACK").IgnoreError();
  }
  database_->in_transaction_ = false;
}

absl::Status Transaction::Commit() {
  // On failure the destructor rolls back.
  MPO_RETURN_IF_ERROR(database_->Run("COMMIT").status());
  database_->in_transaction_ = false;
  database_ = nullptr;
  return absl::OkStatus();
}

}  // namespace mpo::store
