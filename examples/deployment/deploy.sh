# Stands in for what really deploys at your place. Usage: deploy.sh APPLICATION VERSION
set -eu
if [ "$2" = "0.0" ]; then
  echo "there is no version $2 of $1" >&2
  exit 3
fi
echo "$1 $2 answers on $(hostname 2>/dev/null || uname -n)"
