/* Replaces CUDA's header if that is not installed: two opaque types for TensorRT's headers. */
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
