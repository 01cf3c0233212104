# dormouse_schema(FOLDER): every FOLDER/*.proto compiled by protoc into one library for the lite
# runtime (no descriptors: the programs start faster and stay small).
find_program(PROTOC protoc REQUIRED)
function(dormouse_schema folder)
  file(GLOB protos CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.proto)
  set(generated)
  foreach(proto ${protos})
    get_filename_component(stem ${proto} NAME_WE)
    set(out ${PROJECT_BINARY_DIR}/${folder}/${stem}.pb)
    # Names of the format that are macros in <signal.h> and <utmp.h>. Nobody needs these macros.
    add_custom_command(OUTPUT ${out}.cc ${out}.h
      COMMAND ${PROTOC} --cpp_out=lite:${PROJECT_BINARY_DIR} -I${PROJECT_SOURCE_DIR} ${proto}
      COMMAND sed -i "/protoc_insertion_point(includes)/a #undef sigmask\\n#undef EMPTY" ${out}.h
      DEPENDS ${protos} VERBATIM)
    list(APPEND generated ${out}.cc ${out}.h)
  endforeach()
  if(generated)
    add_library(dormouse_images_schema STATIC ${generated})
    target_include_directories(dormouse_images_schema PUBLIC ${PROJECT_BINARY_DIR})
    target_link_libraries(dormouse_images_schema PUBLIC protobuf-lite pthread)
  else()
    add_library(dormouse_images_schema INTERFACE)
  endif()
endfunction()
