# cmake -DSQL_DIR=... -DOUTPUT=... -P embed_sql.cmake: writes the C behind sql/embedded.h.
file(GLOB_RECURSE names RELATIVE "${SQL_DIR}" "${SQL_DIR}/*.sql")
list(SORT names COMPARE STRING)

set(rows "")
set(count 0)
foreach(name IN LISTS names)
    file(READ "${SQL_DIR}/${name}" text)
    string(REPLACE "\\" "\\\\" text "${text}")
    string(REPLACE "\"" "\\\"" text "${text}")
    string(REPLACE "?" "\\?" text "${text}") # -std=c17 still knows trigraphs
    string(REPLACE "\r" "\\r" text "${text}")
    string(REPLACE "\t" "\\t" text "${text}")
    string(REPLACE "\n" "\\n\"\n      \"" text "${text}")
    string(APPEND rows "    { \"${name}\",\n      \"${text}\" },\n")
    math(EXPR count "${count} + 1")
endforeach()

file(WRITE "${OUTPUT}" "/* Written by cmake/embed_sql.cmake from sql/. */
#include \"sql/embedded.h\"

const struct sql_file sql_files[] = {
${rows}    { NULL, NULL },
};
const size_t sql_files_count = ${count};
")
