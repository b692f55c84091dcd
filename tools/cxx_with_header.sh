#!/usr/bin/env bash
# A C++ compiler that reads one header precompiled, for a build in which each file spends most of its time on it:
#
#   CXX=tools/cxx_with_header.sh HEADER=path/to/header.hpp HEADER_FOLDER=folder REAL_CXX=c++ make
#
# A precompiled header serves only the flags that it was made with. So the first call makes it, with the flags that came,
# in a folder named by them, and the calls after it use it; meanwhile, and with a compiler that cannot, files are compiled
# as ever. Made are FOLDER/FLAGS/header.hpp.gch, or FOLDER/FLAGS/failed, which says why not; of an interrupted call,
# neither, and what is there has to be removed.
set -euo pipefail
compiler=${REAL_CXX:-c++}

flags=() source=''
arguments=("$@")
while (($#)); do
    case $1 in
        -o | -MF | -MT | -MQ) shift ;;  # with a value, and about one file
        -MMD | -MD | -c) ;;
        *.cpp) source=$1 ;;
        *) flags+=("$1") ;;
    esac
    shift
done
[[ -n $source ]] || exec "$compiler" "${arguments[@]}"  # links, or tells its version

folder=$HEADER_FOLDER/$(printf '%s\n' "$compiler" "${flags[@]}" | cksum | tr ' ' -)
header=$folder/$(basename "$HEADER")
make_header() {
    cp "$HEADER" "$header" && "$compiler" "${flags[@]}" -x c++-header "$header" -o "$header.partial" &&
        mv "$header.partial" "$header.gch" &&
        # A compiler that takes another name, or other contents, passes over it in silence.
        "$compiler" "${flags[@]}" -Winvalid-pch -Werror=invalid-pch -include "$header" -x c++ -fsyntax-only /dev/null
}
if mkdir "$folder" 2>/dev/null && ! make_header 2>"$folder/why"; then
    rm -f "$header"*
    mv "$folder/why" "$folder/failed"
fi
[[ ! -e $header.gch || -e $folder/failed ]] || arguments=(-include "$header" "${arguments[@]}")
exec "$compiler" "${arguments[@]}"
