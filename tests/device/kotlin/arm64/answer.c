// What onnxruntime-android's own arm64 library answers: answer MODEL PLAN, one tab-separated line of PLAN a step.
//   in    NAME  ELEMENT_TYPE  FILE  RANK  SIZE…    an input: raw little-endian values
//   out   NAME  FILE                               an output, asked for and written there, raw
//   run                                            all of the above
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

#define MOST 32

// bionic keeps the stack guard at a fixed place behind the thread pointer, where glibc keeps a thread's first variables.
__thread char fake_bionic_slots[512];

static const OrtApi *ort;

static void must(OrtStatus *status) {
  if (status == NULL) return;
  fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
  exit(1);
}

static void *read_all(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) { perror(path); exit(1); }
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  void *data = malloc(*size + 1);
  if (fread(data, 1, *size, file) != *size) { perror(path); exit(1); }
  fclose(file);
  return data;
}

static void write_all(const char *path, OrtValue *value) {
  void *data;
  size_t size;
  must(ort->GetTensorMutableData(value, &data));
  must(ort->GetTensorSizeInBytes(value, &size));
  FILE *file = fopen(path, "wb");
  if (file == NULL || fwrite(data, 1, size, file) != size) { perror(path); exit(1); }
  fclose(file);
}

int main(int count, char **arguments) {
  memset(fake_bionic_slots, 0x5a, sizeof fake_bionic_slots);
  if (count != 3) return 2;
  ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  OrtEnv *env;
  OrtSessionOptions *options;
  OrtSession *session;
  OrtMemoryInfo *memory;
  must(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "edgepack", &env));
  must(ort->CreateSessionOptions(&options));
  must(ort->SetIntraOpNumThreads(options, 1));
  must(ort->CreateSession(env, arguments[1], options, &session));
  must(ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
  printf("%s\n", OrtGetApiBase()->GetVersionString());

  size_t length, inputs = 0, outputs = 0;
  char *plan = read_all(arguments[2], &length);
  plan[length] = 0;
  const char *in_names[MOST], *out_names[MOST], *out_files[MOST];
  const OrtValue *in_values[MOST];
  for (char *line; (line = strsep(&plan, "\n")) != NULL;) {
    const char *step = strsep(&line, "\t");
    if (strcmp(step, "in") == 0) {
      in_names[inputs] = strsep(&line, "\t");
      ONNXTensorElementDataType type = (ONNXTensorElementDataType)atoi(strsep(&line, "\t"));
      size_t size, rank;
      void *data = read_all(strsep(&line, "\t"), &size);
      rank = (size_t)atoi(strsep(&line, "\t"));
      int64_t shape[MOST];
      for (size_t i = 0; i < rank; i++) shape[i] = atoll(strsep(&line, "\t"));
      OrtValue *value;
      must(ort->CreateTensorWithDataAsOrtValue(memory, data, size, shape, rank, type, &value));
      in_values[inputs++] = value;
    } else if (strcmp(step, "out") == 0) {
      out_names[outputs] = strsep(&line, "\t");
      out_files[outputs++] = strsep(&line, "\t");
    } else if (strcmp(step, "run") == 0) {
      OrtValue *values[MOST] = {0};
      must(ort->Run(session, NULL, in_names, in_values, inputs, out_names, outputs, values));
      for (size_t i = 0; i < outputs; i++) write_all(out_files[i], values[i]);
      inputs = outputs = 0;
    }
  }
  fflush(stdout);
  _Exit(0); // the library's destructors want more of Android than is here
}
