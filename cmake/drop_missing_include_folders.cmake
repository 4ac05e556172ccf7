# Lets CMake link against ROS packages whose exported targets name folders of the machine that built them.
#
# The ROS wheels of PyPI export include folders below /opt/python, which exist only on their build
# machine, and CMake refuses an imported target with an include folder that is not there. With a
# ROS install nothing is missing, so nothing changes.

function(drop_missing_include_folders)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      # A generator expression is no path yet: CMake judges it later.
      if(folder MATCHES "^\\$<" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()
