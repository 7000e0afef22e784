package build

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// trustDir is where a step finds the certificates that the build was given. The container's /dev is a file system of its
// own, so that no mount point has to be made in the image; and nothing is mounted over the image's own bundle, which a
// step may replace (update-ca-certificates renames a new one onto it).
const trustDir = "/dev/strata"

// The files in trustDir: the bundle, and the settings of programs that take no variable for it.
const (
	trustBundle = "ca-certificates.crt"
	trustApt    = "apt.conf"
	trustWget   = "wgetrc"
)

// trustVariables name a bundle to the programs that fetch: OpenSSL, Go and curl, apk, git, Python, Node with npm, pnpm and
// yarn, Cargo, AWS's, Deno, Bundler, Perl and Nix.
var trustVariables = []string{
	"SSL_CERT_FILE", "CURL_CA_BUNDLE", "SSL_CA_CERT_FILE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT",
	"NODE_EXTRA_CA_CERTS", "npm_config_cafile", "YARN_HTTPS_CA_FILE_PATH", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT",
	"BUNDLE_SSL_CA_CERT", "PERL_LWP_SSL_CA_FILE", "NIX_SSL_CERT_FILE",
}

// trust is the certificates given to the steps of one build, for the time they run.
type trust struct {
	once sync.Once
	dir  string
	err  error
}

// mount gives the mount that shows a step the bundle. The files are written when the first step asks.
func (t *trust) mount(runDir string, bundle []byte) (specs.Mount, error) {
	t.once.Do(func() { t.dir, t.err = writeTrust(runDir, bundle) })
	return specs.Mount{Destination: trustDir, Type: "bind", Source: t.dir, Options: []string{"bind", "rprivate", "ro", "nosuid", "nodev", "noexec"}}, t.err
}

func writeTrust(runDir string, bundle []byte) (string, error) {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(runDir, "trust-")
	if err != nil {
		return "", err
	}
	path := trustDir + "/" + trustBundle
	for name, data := range map[string]string{
		trustBundle: string(bundle),
		trustApt:    fmt.Sprintf("Acquire::https::CAInfo %q;\n", path),
		trustWget:   "ca_certificate = " + path + "\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			return dir, err
		}
		if err := os.Chmod(file, 0o644); err != nil { // whatever the umask
			return dir, err
		}
	}
	return dir, os.Chmod(dir, 0o755)
}

func (t *trust) close() {
	if t.dir != "" {
		os.RemoveAll(t.dir)
	}
}

// trustEnv is env with the variables that name the bundle. They go before what the image says: who gives a bundle wants
// it used. A settings file that the image names stays.
func trustEnv(env []string) []string {
	env = slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(trustVariables, name)
	})
	for _, name := range trustVariables {
		env = append(env, name+"="+trustDir+"/"+trustBundle)
	}
	for _, settings := range []string{"APT_CONFIG=" + trustDir + "/" + trustApt, "WGETRC=" + trustDir + "/" + trustWget} {
		name, _, _ := strings.Cut(settings, "=")
		if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			env = append(env, settings)
		}
	}
	return env
}
