# Writes the bytes of data/x.bin as a C++ source, kX and kXSize in evenflow::data:
#   cmake -D IN=x.bin -D OUT=x.cc -D NAME=kX -P Embed.cmake
file(READ ${IN} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "namespace evenflow::data {
extern const unsigned char ${NAME}[];
extern const long ${NAME}Size;
const unsigned char ${NAME}[] = {${bytes}};
const long ${NAME}Size = ${size};
}  // namespace evenflow::data
")
