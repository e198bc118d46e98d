// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/gloo/gloo_shim.h"

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

struct mpo_gloo_context {
  std::shared_ptr<gloo::rendezvous::Context> context;
  uint32_t tag = 0;  // Of the operation in hand.
};

namespace {

using Milliseconds = std::chrono::milliseconds;

// The keys of connectFullMesh through the caller's store.
class CallerStore final : public gloo::rendezvous::Store {
 public:
  explicit CallerStore(const mpo_gloo_store& store) : store_(store) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    if (store_.put(store_.user, key.c_str(), data.data(), data.size()) != 0) {
      throw gloo::IoException("could not put key " + key);
    }
  }
  std::vector<char> get(const std::string& key) override {
    std::vector<char> value;
    const auto take = [](void* taker, const char* data, size_t size) {
      static_cast<std::vector<char>*>(taker)->assign(data, data + size);
    };
    if (store_.get(store_.user, key.c_str(), take, &value) != 0) {
      throw gloo::IoException("could not get key " + key);
    }
    return value;
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys,
            const Milliseconds&) override {
    wait(keys);  // The caller's get has a deadline of its own.
  }

 private:
  const mpo_gloo_store store_;
};

void Say(const mpo_gloo_error& error, const char* text) {
  if (error.text != nullptr && error.capacity > 0) {
    std::snprintf(error.text, error.capacity, "%s", text);
  }
}

// No exception leaves the library.
template <typename Function>
int Guarded(const mpo_gloo_error& error, Function function) {
  try {
    function();
    return MPO_GLOO_OK;
  } catch (const gloo::IoException& e) {
    Say(error, e.what());
    return MPO_GLOO_BROKEN;
  } catch (const gloo::InvalidOperationException& e) {
    Say(error, e.what());
    return MPO_GLOO_INVALID;
  } catch (const std::exception& e) {
    Say(error, e.what());
    return MPO_GLOO_FAILED;
  } catch (...) {
    Say(error, "unknown exception");
    return MPO_GLOO_FAILED;
  }
}

template <typename T>
void AllReduce(mpo_gloo_context& own, void* data, size_t count,
               Milliseconds timeout) {
  gloo::AllreduceOptions options(own.context);
  options.setOutput(static_cast<T*>(data), count);
  using Sum = void (*)(void*, const void*, const void*, size_t);
  options.setReduceFunction(static_cast<Sum>(&gloo::sum<T>));
  options.setTag(++own.tag);
  options.setTimeout(timeout);
  gloo::allreduce(options);
}

}  // namespace

int mpo_gloo_connect(int rank, int ranks, const char* host, int64_t timeout_ms,
                     const mpo_gloo_store* store, mpo_gloo_context** context,
                     mpo_gloo_error error) {
  *context = nullptr;
  return Guarded(error, [&] {
    auto made = std::make_unique<mpo_gloo_context>();
    auto device =
        gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(host));
    made->context = std::make_shared<gloo::rendezvous::Context>(rank, ranks);
    made->context->setTimeout(Milliseconds(timeout_ms));
    CallerStore keys(*store);
    made->context->connectFullMesh(keys, device);
    *context = made.release();
  });
}

void mpo_gloo_close(mpo_gloo_context* context) {
  Guarded({nullptr, 0}, [&] { delete context; });
}

int mpo_gloo_all_reduce_sum(mpo_gloo_context* context, void* data, size_t count,
                            mpo_gloo_type type, int64_t timeout_ms,
                            mpo_gloo_error error) {
  return Guarded(error, [&] {
    const Milliseconds timeout(timeout_ms);
    switch (type) {
      case MPO_GLOO_FLOAT:
        return AllReduce<float>(*context, data, count, timeout);
      case MPO_GLOO_DOUBLE:
        return AllReduce<double>(*context, data, count, timeout);
      case MPO_GLOO_INT64:
        return AllReduce<int64_t>(*context, data, count, timeout);
      case MPO_GLOO_BYTES:
        break;
    }
    throw gloo::InvalidOperationException("a sum needs numbers");
  });
}

int mpo_gloo_broadcast(mpo_gloo_context* context, void* data, size_t bytes,
                       int root, int64_t timeout_ms, mpo_gloo_error error) {
  return Guarded(error, [&] {
    gloo::BroadcastOptions options(context->context);
    options.setOutput(static_cast<char*>(data), bytes);
    options.setRoot(root);
    options.setTag(++context->tag);
    options.setTimeout(Milliseconds(timeout_ms));
    gloo::broadcast(options);
  });
}

int mpo_gloo_all_gather(mpo_gloo_context* context, const void* own,
                        size_t bytes, void* all, int64_t timeout_ms,
                        mpo_gloo_error error) {
  return Guarded(error, [&] {
    gloo::AllgatherOptions options(context->context);
    options.setInput(static_cast<char*>(const_cast<void*>(own)), bytes);
    options.setOutput(static_cast<char*>(all),
                      bytes * static_cast<size_t>(context->context->size));
    options.setTag(++context->tag);
    options.setTimeout(Milliseconds(timeout_ms));
    gloo::allgather(options);
  });
}
