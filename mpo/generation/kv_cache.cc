// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "mpo/generation/kernels.h"

namespace mpo::generation {
namespace {

// Reference count and number of the page, padded to keep alignment.
constexpr int64_t kHeaderFloats = 16;
constexpr int64_t kIndexAt = 2;
constexpr int64_t kSlabPages = 32;
constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

int64_t PagesFor(int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

KvCache::KvCache(int64_t page_floats, int64_t max_pages, CopyPage copy)
    : page_floats_((page_floats + 15) / 16 * 16),
      max_pages_(max_pages),
      copy_(std::move(copy)) {}

int64_t KvCache::IndexOf(const float* page) {
  int64_t index = 0;
  std::memcpy(&index, page - kHeaderFloats + kIndexAt, sizeof(index));
  return index;
}

void KvCache::Copy(float* to, const float* from) const {
  if (copy_) return copy_(to, from);
  std::memcpy(to, from, page_bytes());
}

int32_t& KvCache::References(float* page) {
  return *reinterpret_cast<int32_t*>(page - kHeaderFloats);
}

int64_t KvCache::free_pages() const {
  return max_pages_ == 0 ? std::numeric_limits<int64_t>::max()
                         : max_pages_ - used_;
}

void KvCache::Grow() {
  int64_t count = kSlabPages;
  if (max_pages_ > 0) count = std::min(count, max_pages_ - created_);
  const int64_t stride = page_floats_ + kHeaderFloats;
  const size_t bytes = static_cast<size_t>(count * stride) * sizeof(float);
  void* memory = nullptr;
  const size_t alignment = bytes < kHugePage ? 64 : kHugePage;
  if (posix_memalign(&memory, alignment, bytes) != 0) throw std::bad_alloc();
  // Attention reads all of the cache at every step; with small pages it waits
  // for address translation. Only advice: without it things are slower.
  madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  slabs_.emplace_back(static_cast<float*>(memory));
  for (int64_t i = count - 1; i >= 0; --i) {
    float* page = slabs_.back().get() + i * stride + kHeaderFloats;
    const int64_t index = created_ + i;
    std::memcpy(page - kHeaderFloats + kIndexAt, &index, sizeof(index));
    free_.push_back(page);
  }
  created_ += count;
  allocated_bytes_ += bytes;
}

float* KvCache::Allocate() {
  if (max_pages_ > 0 && used_ >= max_pages_) return nullptr;
  if (free_.empty()) Grow();
  float* page = free_.back();
  free_.pop_back();
  new (page - kHeaderFloats) int32_t(1);
  peak_ = std::max(peak_, ++used_);
  return page;
}

void KvCache::Share(float* page) { ++References(page); }

void KvCache::Release(float* page) {
  if (--References(page) > 0) return;
  free_.push_back(page);
  --used_;
}

PageTable& PageTable::operator=(PageTable&& other) noexcept {
  if (this != &other) {
    Clear();
    cache_ = other.cache_;
    pages_ = std::move(other.pages_);
    other.pages_.clear();
  }
  return *this;
}

void PageTable::Clear() {
  for (float* page : pages_) cache_->Release(page);
  pages_.clear();
}

bool PageTable::Reserve(int64_t tokens) {
  while (static_cast<int64_t>(pages_.size()) < PagesFor(tokens)) {
    float* page = cache_->Allocate();
    if (page == nullptr) return false;
    pages_.push_back(page);
  }
  return true;
}

std::unique_ptr<PageTable> PageTable::Fork(int64_t tokens) const {
  auto fork = std::make_unique<PageTable>(*cache_);
  const int64_t whole = tokens / kPageTokens;
  for (int64_t i = 0; i < whole; ++i) {
    cache_->Share(pages_[i]);
    fork->pages_.push_back(pages_[i]);
  }
  if (tokens % kPageTokens != 0) {
    float* copy = cache_->Allocate();
    if (copy == nullptr) return nullptr;
    cache_->Copy(copy, pages_[whole]);
    fork->pages_.push_back(copy);
  }
  return fork;
}

}  // namespace mpo::generation
