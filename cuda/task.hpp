// One call's work off the event loop, as a promise; and failures as JavaScript errors.

#pragma once

#include <napi.h>

#include <functional>
#include <optional>
#include <utility>

#include "device.hpp"

namespace samebits {

// An Error with the parts of SamebitsError: code, rule, expected, got, fix, and cudaError when CUDA gave one.
inline Napi::Error error_from(Napi::Env env, const Failure &failure) {
  Napi::Error error = Napi::Error::New(env, failure.code + ": " + failure.rule + "; got " + failure.got);
  Napi::Object value = error.Value();
  value.Set("code", failure.code);
  value.Set("rule", failure.rule);
  value.Set("expected", failure.expected);
  value.Set("got", failure.got);
  value.Set("fix", failure.fix);
  if (!failure.cuda_error.empty()) value.Set("cudaError", failure.cuda_error);
  return error;
}

// Makes the promise's value, on the JavaScript thread.
using Finish = std::function<Napi::Value(Napi::Env)>;
// Runs on a thread of the pool. What it captures is destroyed there, so that freeing device memory never blocks the loop.
using Work = std::function<Finish()>;

class Task final : public Napi::AsyncWorker {
 public:
  static Napi::Promise start(Napi::Env env, Work work) { return start_with(env, Napi::ArrayBuffer(), std::move(work)); }

  // For work that fills `output`, which becomes the promise's value and lives as long as the work.
  static Napi::Promise start_with(Napi::Env env, Napi::ArrayBuffer output, Work work) {
    Task *const task = new Task(env, std::move(work));
    if (!output.IsEmpty()) task->output_ = Napi::Persistent(output);
    const Napi::Promise promise = task->deferred_.Promise();
    task->Queue();
    return promise;
  }

 private:
  Task(Napi::Env env, Work work) : AsyncWorker(env), deferred_(env), work_(std::move(work)) {}

  void Execute() override {
    try {
      finish_ = work_();
    } catch (const Failure &failure) {
      failure_ = failure;
    } catch (const std::bad_alloc &error) {
      fail("HOST_OUT_OF_MEMORY", "host memory must suffice for a call", error);
    } catch (const std::exception &error) {
      fail("DEVICE_FAILURE", "the host must carry out a call", error);
    }
    work_ = nullptr;
  }

  void fail(const char *code, const char *rule, const std::exception &error) {
    failure_ = Failure();
    failure_->code = code;
    failure_->rule = rule;
    failure_->expected = "no error of the host";
    failure_->got = error.what();
    failure_->fix = "Free memory on the host, or split the call.";
  }

  void OnOK() override {
    if (failure_) {
      deferred_.Reject(error_from(Env(), *failure_).Value());
    } else if (!output_.IsEmpty()) {
      deferred_.Resolve(output_.Value());
    } else {
      deferred_.Resolve(finish_ ? finish_(Env()) : Env().Undefined());
    }
  }

  void OnError(const Napi::Error &error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  Napi::Reference<Napi::ArrayBuffer> output_;
  Work work_;
  Finish finish_;
  std::optional<Failure> failure_;
};

}  // namespace samebits
