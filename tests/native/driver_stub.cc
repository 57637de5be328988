// A libcuda.so.1 that says of itself what the environment says, and can do nothing else: DRIVER_VERSION, DRIVER_INIT.

#include <cstdlib>

namespace {

int value_of(const char *name) {
  const char *const text = std::getenv(name);
  return text ? std::atoi(text) : 0;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return value_of("DRIVER_INIT"); }

int cuDriverGetVersion(int *version) {
  *version = value_of("DRIVER_VERSION");
  return 0;
}
}
