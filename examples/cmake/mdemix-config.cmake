# find_package(mdemix): the target mdemix::mdemix has the folder of mdemix.h and dagan.h, and libm. One source file of
# the program defines MDEMIX_IMPLEMENTATION before it includes the header. For threads link OpenMP::OpenMP_C as well.
if(NOT TARGET mdemix::mdemix)
  # Installed in PREFIX/share/cmake/mdemix, or in examples/cmake of the sources.
  get_filename_component(mdemix_folder "${CMAKE_CURRENT_LIST_DIR}/../../../include" ABSOLUTE)
  if(NOT EXISTS "${mdemix_folder}/mdemix.h")
    get_filename_component(mdemix_folder "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
  endif()
  add_library(mdemix::mdemix INTERFACE IMPORTED GLOBAL)
  set_target_properties(mdemix::mdemix PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${mdemix_folder}")
  if(UNIX)
    set_target_properties(mdemix::mdemix PROPERTIES INTERFACE_LINK_LIBRARIES m)
  endif()
endif()
