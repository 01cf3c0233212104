# Go's own compiler, itself a Go program with a collector, compiles a package of the library that comes with it.
export HOME=/job GOCACHE=/job/cache GO111MODULE=off
cd /usr/lib/go/src/go/types
files=$(go list -f '{{join .GoFiles " "}}' .)
number=0
while [ $number -lt "$WORK" ]; do
  number=$((number + 1))
  "$(go env GOTOOLDIR)/compile" -c=4 -complete -p "types$SEED" -o /job/types.a $files && sha256sum </job/types.a || exit 1
done
