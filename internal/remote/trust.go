package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const errNotDir = unix.ENOTDIR

// trust are the TLS settings for an endpoint: for its own host, and for hosts that it sends us to (token service, blob
// storage). The authorities are common to both; client certificates and unverified TLS are for its own host only.
type trust struct{ own, others *tls.Config }

// trust gathers the TLS settings for an endpoint from its entry in hosts.toml and from the certificates in the directories
// of the hosts names.
func (c *Client) trust(names []string, entry hostEntry) (trust, error) {
	ca, client := entry.ca, entry.client
	for _, dir := range c.opt.HostDirs {
		for _, name := range names {
			cas, pairs, err := certificateFiles(dir, name)
			if err != nil {
				return trust{}, err
			}
			ca, client = append(ca, cas...), append(client, pairs...)
		}
	}
	t := trust{
		own:    &tls.Config{InsecureSkipVerify: entry.skipVerify}, //nolint:gosec // said in hosts.toml
		others: &tls.Config{},
	}
	pool, err := authorities(ca)
	if err != nil {
		return trust{}, err
	}
	t.own.RootCAs, t.others.RootCAs = pool, pool
	for _, pair := range client {
		cert, err := keyPair(pair)
		if err != nil {
			return trust{}, err
		}
		t.own.Certificates = append(t.own.Certificates, cert)
	}
	return t, nil
}

// certificateFiles lists a host's files in docker's form: *.crt are authorities, NAME.cert and NAME.key a client's. A
// host without a directory of its own has that of _default.
func certificateFiles(dir, host string) (ca []string, client [][2]string, err error) {
	for _, name := range append(dirNames(host), defaultHost) {
		in := filepath.Join(dir, name)
		entries, err := os.ReadDir(in)
		if absent(err) || errors.Is(err, errNotDir) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if len(entries) > maxHostDir {
			return nil, nil, fmt.Errorf("%s: more than %d files: %w", in, maxHostDir, errdef.ErrLimit)
		}
		for _, e := range entries {
			file := filepath.Join(in, e.Name())
			switch filepath.Ext(file) {
			case ".crt":
				ca = append(ca, file)
			case ".cert":
				client = append(client, [2]string{file, strings.TrimSuffix(file, ".cert") + ".key"})
			}
		}
		return ca, client, nil
	}
	return nil, nil, nil
}

// authorities is the system's pool with the certificates of files; nil, which is the system's, without files.
func authorities(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, f := range files {
		pem, err := readFile(f, maxHostFile)
		if err != nil {
			return nil, fmt.Errorf("authority of a registry: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in PEM form in it: %w", f, errdef.ErrInvalid)
		}
	}
	return pool, nil
}

func keyPair(files [2]string) (tls.Certificate, error) {
	var pem [2][]byte
	for i, f := range files {
		var err error
		if pem[i], err = readFile(f, maxHostFile); err != nil {
			return tls.Certificate{}, fmt.Errorf("client certificate of a registry: %w", err)
		}
	}
	cert, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("client certificate %s with key %s: %w: %w", files[0], files[1], errdef.ErrInvalid, err)
	}
	return cert, nil
}
