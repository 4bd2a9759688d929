# -DKINDIT_RUNTIME_ONLY=ON: one static program for small devices, which assembles, takes apart, describes and samples.
# No training, fonts, picture decoders, BLAS or just-in-time compiler: products by the engine's own C, whose numbers are
# those of the full build under KINDIT_GEMM=c, bit for bit.
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
find_package(OpenMP REQUIRED COMPONENTS C)
find_library(PNG_STATIC png REQUIRED)
find_library(ZLIB_STATIC z REQUIRED)

# Whole layers, and of the others what `info` counts with. What nothing calls is dropped by the linker.
file(GLOB sources CONFIGURE_DEPENDS
  src/base/*.c src/formats/*.c src/engine/*.c src/model/*.c src/kind/*.c src/diffusion/*.c src/cli/info_*.c)
list(FILTER sources EXCLUDE REGEX "/(image_jpeg|image_webp|image_read|tensorboard)\\.c$")
list(APPEND sources
  src/data/dataset.c src/metrics/nearest.c src/train/train_memory.c src/train/train_settings.c src/train/train_step.c
  src/api/api_memory.c src/api/api_model.c src/api/api_parts.c src/api/api_sample.c
  src/cli/main.c src/cli/cli.c src/cli/commands.c src/cli/help.c src/cli/model_options.c src/cli/options.c
  src/cli/progress.c src/cli/sample_check.c src/cli/sample_options.c src/cli/sweep.c src/cli/html.c src/cli/html_curve.c
  src/cli/cmd_assemble.c src/cli/cmd_decompose.c src/cli/cmd_info.c src/cli/cmd_sample.c)

# Debian has cJSON as a shared library only.
add_library(cjson STATIC third_party/cjson/cJSON.c)
target_compile_options(cjson PRIVATE -w -Os -ffunction-sections)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include/cjson)
file(COPY third_party/cjson/cJSON.h DESTINATION ${CMAKE_BINARY_DIR}/include/cjson)

# Speed where the numbers are made, size elsewhere.
file(GLOB kernels CONFIGURE_DEPENDS src/engine/*.c)
list(FILTER sources EXCLUDE REGEX "/src/engine/")
add_library(engine OBJECT ${kernels})
target_compile_options(engine PRIVATE ${engine_options} -ffunction-sections)
target_link_libraries(engine PRIVATE OpenMP::OpenMP_C)
add_executable(kindit ${sources} $<TARGET_OBJECTS:engine>)
target_compile_options(kindit PRIVATE $<$<CONFIG:Release>:-Os> -ffunction-sections -fdata-sections)
target_compile_definitions(kindit PRIVATE KINDIT_RUNTIME_ONLY)
foreach(target engine kindit)
  target_include_directories(${target} PRIVATE include src)
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_BINARY_DIR}/include)
endforeach()
target_link_libraries(kindit PRIVATE cjson ${PNG_STATIC} ${ZLIB_STATIC} OpenMP::OpenMP_C m)
target_link_options(kindit PRIVATE -static -Wl,--gc-sections $<$<CONFIG:Release>:-s>)
