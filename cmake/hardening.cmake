# What a service that reads foreign bytes ships with, and the sanitizers that replace it in tests.

# Random addresses for the program itself too. -fPIE, not the -fPIC that CMake would give a static
# library: it keeps calls between our own files direct, and lets them be inlined.
add_compile_options(-fPIE)
add_link_options(-pie)

if(PGS_SANITIZE)
    # A report ends the program: no run with a finding can pass.
    add_compile_options(-fsanitize=${PGS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${PGS_SANITIZE})
else()
    add_compile_options(
        -fstack-protector-strong  # a smashed return address ends the program
        -fstack-clash-protection) # a large frame cannot jump over the guard page
    if(CMAKE_BUILD_TYPE STREQUAL "Release")
        # Checked versions of memcpy and friends; needs the optimiser.
        add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
    endif()
    add_link_options(
        -Wl,-z,relro -Wl,-z,now   # the table of functions is read-only once the program runs
        -Wl,-z,noexecstack)
endif()
