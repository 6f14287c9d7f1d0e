#!/bin/bash
# coll.sh - programs of others use the collectives: the installed library and header, the example, under mpirun
. "$(dirname "$0")/lib.sh"
lib=$BUILD/src/coll

for std in c99 c17; do
    check "the example compiles ($std)" gcc -std=$std -Wall -Wextra -Werror -pedantic -o average \
        "$SOURCE/examples/coll/average.c" -I"$SOURCE/include" -L"$lib" -ltycoll
done
check "...and with the static library" gcc -std=c99 -o average-static "$SOURCE/examples/coll/average.c" \
    -I"$SOURCE/include" "$lib/libtycoll.a" -lsodium -ldl -lm -pthread
echo "#include <trainyard/coll.h>" > coll.cc
check "the header is C++ too" g++ -Wall -Wextra -Werror -fsyntax-only -I"$SOURCE/include" coll.cc
equal "the library shows what its header declares, and nothing else" \
    "$(grep -o 'ty_coll_[a-z_]*(' "$SOURCE/include/trainyard/coll.h" | tr -d '(' | sort -u | tr '\n' ' ')" \
    "$(nm -D --defined-only "$lib/libtycoll.so" | awk '{print $3}' | sort -u | tr '\n' ' ')"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LD_LIBRARY_PATH=$lib
exits "the example runs alone" 0 ./average
has "...as a world of one" "$out" "1 ranks: the average begins with 0 and ends with 999"
exits "the example runs under mpirun" 0 timeout 60 mpirun --oversubscribe -np 2 ./average
has "...and averages" "$out" "2 ranks: the average begins with 0.5 and ends with 999.5"
has "...and sums" "$out" "the sum of the first part begins with 1; what was not summed ends with 999.5"
exits "...linked with the static library too" 0 timeout 60 mpirun --oversubscribe -np 3 ./average-static
has "...and averages" "$out" "3 ranks: the average begins with 1 and ends with 1000"
