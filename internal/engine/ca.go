package engine

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"strata/internal/errdef"
)

// maxCA bounds a bundle of certificates: the world's public ones are a quarter of a mebibyte.
const maxCA = 16 << 20

// hostCA lists where systems keep the bundle of what they trust, the most usual first.
var hostCA = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch, Gentoo
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",                  // older ones of these
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/ssl/cert.pem",
}

// ReadCA reads a bundle of certificates: the file that from names, or this machine's own bundle if from is "host".
func ReadCA(from string) ([]byte, error) {
	if from != "host" {
		return readCA(from)
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		return readCA(file)
	}
	for _, file := range hostCA {
		bundle, err := readCA(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return bundle, err
	}
	return nil, errdef.WithHint(fmt.Errorf("this machine's certificates: %w", errdef.ErrNotFound), "install ca-certificates, or name the bundle: --ca FILE")
}

func readCA(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCA+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("certificates: %w", err)
	case len(raw) > maxCA:
		return nil, fmt.Errorf("certificates %s: more than %d MiB: %w", file, maxCA>>20, errdef.ErrLimit)
	}
	return raw, checkPEM(file, raw)
}

// checkPEM wants certificates, at least one, and nothing that must stay secret: every step can read the file.
func checkPEM(file string, raw []byte) error {
	found := false
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE":
			found = true
		case "X509 CRL":
		default:
			return fmt.Errorf("certificates %s: holds a %s, which no step should see: %w", file, block.Type, errdef.ErrInvalid)
		}
	}
	if found {
		return nil
	}
	err := fmt.Errorf("certificates %s: no PEM certificate in it: %w", file, errdef.ErrInvalid)
	if len(raw) > 1 && raw[0] == 0x30 && raw[1] >= 0x80 { // an ASN.1 sequence
		return errdef.WithHint(err, "it looks like DER: openssl x509 -inform der -in "+file+" -out ca.pem")
	}
	return err
}
