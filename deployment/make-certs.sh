#!/bin/sh
# make-certs.sh HOST: an authority of our own and a certificate of it for HOST, in .certs/, for development.
# What is there stays.
set -eu
umask 077

host=$1
folder=.certs
mkdir -p "$folder"
if [ -e "$folder/cert_bundle.pem" ] && [ -e "$folder/cert.key" ]; then
  echo "$folder/cert_bundle.pem is there"
  exit 0
fi
for key in ca cert; do
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$folder/$key.key"
done
openssl req -x509 -key "$folder/ca.key" -days 825 -subj "/CN=archiver development authority" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out "$folder/ca.pem"
openssl req -new -key "$folder/cert.key" -subj "/CN=$host" -out "$folder/cert.csr"
printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' \
  "$host" >"$folder/cert.ext"
openssl x509 -req -days 397 -in "$folder/cert.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial \
  -extfile "$folder/cert.ext" -out "$folder/cert.pem" 2>/dev/null
cat "$folder/cert.pem" "$folder/ca.pem" >"$folder/cert_bundle.pem"
rm -f "$folder/cert.csr" "$folder/cert.ext" "$folder/cert.pem"
chmod 0644 "$folder/ca.pem" "$folder/cert_bundle.pem"
echo "made $folder/cert_bundle.pem for $host; clients that shall trust it: $folder/ca.pem"
