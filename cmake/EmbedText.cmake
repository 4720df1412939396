# Writes sources of kernels as entries of a table, under their paths from evenflow/:
#   cmake -D OUT=x.cc -D ROOT=evenflow -D "FILES=ops/a.gpu.h,ops/b.gpu.h" -P EmbedText.cmake
string(REPLACE "," ";" FILES "${FILES}")
set(entries "")
foreach(file IN LISTS FILES)
  file(READ ${ROOT}/${file} text)
  string(MAKE_C_IDENTIFIER ${file} id)
  string(APPEND entries "const SourceEntry ${id}{\"${file}\", R\"EVENFLOW(${text})EVENFLOW\"};\n")
endforeach()
file(WRITE ${OUT} "#include \"evenflow/backends/gpu/gpu.h\"
namespace evenflow::gpu {
${entries}}
")
