// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

namespace mpo::generation {

// Pages of key-value cache with reference counts, so that sequences share the
// pages of a common prefix. Memory grows in slabs up to the limit and is kept
// for reuse. Not thread-safe.
class KvCache {
 public:
  using CopyPage = std::function<void(float* to, const float* from)>;

  // `page_floats` floats a page; at most `max_pages` pages, 0 = no limit.
  // `copy` empty = the floats of a page are all there is of it.
  KvCache(int64_t page_floats, int64_t max_pages, CopyPage copy = nullptr);

  // Number of a page, from 0, in the order in which pages were made.
  static int64_t IndexOf(const float* page);
  void Copy(float* to, const float* from) const;

  // A page with one reference; uninitialised floats, aligned to 64 bytes. Null
  // when the limit is reached. std::bad_alloc when memory is short.
  float* Allocate();
  // One reference more, one reference less; the last gives the page back.
  void Share(float* page);
  void Release(float* page);

  int64_t page_floats() const { return page_floats_; }
  uint64_t page_bytes() const {
    return static_cast<uint64_t>(page_floats_) * sizeof(float);
  }
  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }
  // Pages made so far, and the memory taken for them, headers included.
  int64_t created() const { return created_; }
  uint64_t allocated_bytes() const { return allocated_bytes_; }
  void ResetPeak() { peak_ = used_; }
  // Pages that can still be allocated; INT64_MAX without a limit.
  int64_t free_pages() const;

 private:
  struct FreeDeleter {
    void operator()(void* p) const { std::free(p); }
  };
  int32_t& References(float* page);
  void Grow();

  const int64_t page_floats_;
  const int64_t max_pages_;
  const CopyPage copy_;
  int64_t used_ = 0;
  int64_t peak_ = 0;
  int64_t created_ = 0;
  uint64_t allocated_bytes_ = 0;
  std::vector<std::unique_ptr<float, FreeDeleter>> slabs_;
  std::vector<float*> free_;
};

// Pages that hold `tokens` tokens.
int64_t PagesFor(int64_t tokens);

// The pages of one sequence; releases its references when destroyed.
class PageTable {
 public:
  explicit PageTable(KvCache& cache) : cache_(&cache) {}
  ~PageTable() { Clear(); }
  PageTable(PageTable&& other) noexcept
      : cache_(other.cache_), pages_(std::move(other.pages_)) {
    other.pages_.clear();
  }
  PageTable& operator=(PageTable&& other) noexcept;
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  // Makes room for `tokens` tokens; false when the cache is full.
  [[nodiscard]] bool Reserve(int64_t tokens);
  // A table over the first `tokens` tokens: whole pages are shared, the last,
  // partly filled one is copied. Null when the cache is full.
  std::unique_ptr<PageTable> Fork(int64_t tokens) const;

  float* const* pages() const { return pages_.data(); }
  int64_t size() const { return static_cast<int64_t>(pages_.size()); }

 private:
  void Clear();

  KvCache* cache_;
  std::vector<float*> pages_;
};

}  // namespace mpo::generation
