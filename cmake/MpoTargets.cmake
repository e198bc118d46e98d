# Flags of our own code; generated and outside code does not get them.
add_library(mpo_build_flags INTERFACE)
# -Wno-restrict: gcc 12 warns of its own std::string (bug 105651).
target_compile_options(mpo_build_flags INTERFACE -Wall -Wextra -Wshadow -Werror
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety> $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

# mpo_library(<name> [HEADERS ...] [SOURCES ...] [DEPS ...] [PRIVATE_DEPS ...])
# One library per folder, aliased mpo::<name>. DEPS are what headers include; the rest is PRIVATE_DEPS.
function(mpo_library name)
  cmake_parse_arguments(ARG "" "" "HEADERS;SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(mpo_${name} STATIC ${ARG_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(mpo_${name} PRIVATE mpo_build_flags ${ARG_PRIVATE_DEPS})
  else()
    add_library(mpo_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_sources(mpo_${name} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${ARG_HEADERS})
  target_include_directories(mpo_${name} ${scope} ${PROJECT_SOURCE_DIR})
  target_link_libraries(mpo_${name} ${scope} ${ARG_DEPS})
  add_library(mpo::${name} ALIAS mpo_${name})
endfunction()

set(MPO_TEST_PATIENCE 1 CACHE STRING "Time limits of tests are multiplied by this; for slow builds such as coverage")
# mpo_test(<name> SOURCES ... [DEPS ...] [LABELS unit|integration|system|gpu ...] [TIMEOUT seconds])
# One executable a folder; each TEST_CASE becomes one ctest test. Threads of LibTorch that wait sleep: two tests side by
# side would otherwise spin for the same cores.
function(mpo_test name)
  if(NOT BUILD_TESTING)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * ${MPO_TEST_PATIENCE}")
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE mpo_build_flags mpo::test_main ${ARG_DEPS})
  target_compile_definitions(${name} PRIVATE MPO_SOURCE_DIR="${PROJECT_SOURCE_DIR}" MPO_BINARY_DIR="${PROJECT_BINARY_DIR}")
  catch_discover_tests(${name} TEST_PREFIX "${name}: " PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT OMP_WAIT_POLICY=passive SKIP_REGULAR_EXPRESSION "skipped: no CUDA device")
endfunction()

if(BUILD_TESTING)
  add_library(mpo_test_main STATIC ${PROJECT_SOURCE_DIR}/tests/support/test_main.cc)
  target_link_libraries(mpo_test_main PUBLIC Catch2::Catch2)
  add_library(mpo::test_main ALIAS mpo_test_main)
endif()

# mpo_fuzz(<name> SOURCES ... CORPUS <folder> [DEPS ...])
# A libFuzzer target with the seeds of its corpus; needs the preset fuzz. DEPS are our libraries.
function(mpo_fuzz name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzzers)
  target_link_libraries(${name} PRIVATE mpo_build_flags ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers ${name})
  file(APPEND ${PROJECT_BINARY_DIR}/fuzz_targets.txt "${name} ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_CORPUS}\n")
endfunction()

if(MPO_FUZZ)
  add_custom_target(fuzzers)
  file(WRITE ${PROJECT_BINARY_DIR}/fuzz_targets.txt "")
endif()

# mpo_torch_pch(<target>) gives a target the precompiled header of LibTorch (24 s a file without, 5 s with). It is made once,
# by the first target that asks; all users must be compiled with the same flags (macros of their own aside).
function(mpo_torch_pch target)
  if(NOT TARGET ${target}) # A test where none are built.
    return()
  endif()
  if(NOT TARGET mpo_torch_header)
    file(WRITE ${PROJECT_BINARY_DIR}/torch_header.cc "// Nothing but the precompiled header.\n")
    add_library(mpo_torch_header OBJECT ${PROJECT_BINARY_DIR}/torch_header.cc)
    target_link_libraries(mpo_torch_header PRIVATE mpo_build_flags mpo::libtorch)
    target_precompile_headers(mpo_torch_header PRIVATE <torch/torch.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM mpo_torch_header)
endfunction()
