// A C target of a Swift package needs a source file.
#include "COnnxRuntime.h"
