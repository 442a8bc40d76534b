/* What TensorRT's headers take from CUDA's, where those are not installed: two opaque types. */
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
