# Warnings are errors. Each flag says what it catches; a flag that cries wolf is removed, not ignored.
option(PGS_WERROR "Treat warnings as errors" ON)

set(PGS_WARNINGS
    -Wall -Wextra            # the common ground
    -Wshadow                 # an inner name that hides an outer one: the wrong one gets changed
    -Wstrict-prototypes      # f() takes anything; f(void) is meant
    -Wold-style-definition   # the same in definitions
    -Wmissing-prototypes     # a function that should be static, or whose header disagrees with it
    -Wmissing-declarations   # the same for what is not a prototype
    -Wvla                    # stack use that input decides
    -Wformat=2               # formats that are no literals, or use %n
    -Wundef                  # a misspelt macro in #if counts as 0
    -Wpointer-arith          # arithmetic on void *, which is an extension
    -Wcast-qual              # a cast that drops const, so that literals or a caller's data get written
    -Wwrite-strings          # string literals are const
    -Wimplicit-fallthrough=5 # only the attribute counts, no comment that a formatter may move
    -Wdouble-promotion       # float widened unseen
    -Wredundant-decls        # two declarations that can drift apart
    -Wnested-externs         # a declaration hidden in a function
)
set(PGS_WARNINGS_GNU
    -Wlogical-op             # x && x, and bit operators where logical ones are meant
    -Wduplicated-cond        # the same condition twice in an if chain
    -Wtrampolines            # would make the stack executable
)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    list(APPEND PGS_WARNINGS ${PGS_WARNINGS_GNU})
else()
    # clang accepts fallthrough without a level
    list(TRANSFORM PGS_WARNINGS REPLACE "^-Wimplicit-fallthrough=5$" "-Wimplicit-fallthrough")
endif()
add_compile_options(${PGS_WARNINGS})
if(PGS_WERROR)
    add_compile_options(-Werror)
endif()
