package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/errdef"
	"strata/internal/userns"
)

// hubKey is the name under which docker keeps what belongs to docker.io.
const hubKey = "https://index.docker.io/v1/"

// credentialFiles are the files in which credentials are looked for, in order: docker's, then podman's. Where
// REGISTRY_AUTH_FILE names one, it is the only one, as for podman.
func credentialFiles() []string {
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}
	}
	var files []string
	if file, err := loginFile(); err == nil {
		files = append(files, file)
	}
	return append(files, podmanFiles()...)
}

func podmanFiles() []string {
	var files []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	} else if !userns.Active() {
		files = append(files, fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()))
	}
	if config := userConfigDir(); config != "" {
		files = append(files, filepath.Join(config, "containers/auth.json"))
	}
	return files
}

// loginFile is the file that Login writes.
func loginFile() (string, error) {
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		return file, nil
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("credentials: HOME is not set: %w", errdef.ErrUnavailable)
	}
	return filepath.Join(home, ".docker/config.json"), nil
}

// findCredential looks for the credentials for a registry, or for one repository of it, in files. A file that cannot be
// used does not hide the next; it makes the error where none has any.
func findCredential(ctx context.Context, files []string, registry, repo string) (credential, error) {
	var failed []error
	for _, name := range files {
		f, err := readAuthFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var cred credential
		if err == nil {
			cred, err = f.find(ctx, registry, repo)
		}
		if err != nil {
			failed = append(failed, err)
		} else if cred != (credential{}) {
			return cred, nil
		}
	}
	return credential{}, errors.Join(failed...)
}

// find asks the helper that the file names for the registry, then the file itself.
func (f *authFile) find(ctx context.Context, registry, repo string) (credential, error) {
	if helper, key := f.helper(registry); helper != "" {
		cred, err := askHelper(ctx, helper, key)
		if err != nil || cred != (credential{}) {
			return cred, err
		}
	}
	for scope := registry + "/" + repo; ; {
		for _, key := range f.keys(scope) {
			cred, err := f.auths[key].credential()
			if err != nil {
				return cred, fmt.Errorf("%s: %s: %w", f.path, key, err)
			}
			if cred != (credential{}) {
				return cred, nil
			}
		}
		i := strings.LastIndexByte(scope, '/')
		if i < 0 {
			return credential{}, nil
		}
		scope = scope[:i]
	}
}

// helper is the credential helper for a registry, "" without one, and the name by which it knows the registry.
func (f *authFile) helper(registry string) (helper, key string) {
	for _, key := range aliases(registry) {
		if h := f.credHelpers[key]; h != "" {
			return h, key
		}
	}
	return f.credsStore, aliases(registry)[0]
}

// aliases are the names under which the field's tools keep what belongs to a registry; the first is docker's.
func aliases(registry string) []string {
	if registry == dockerHub {
		return []string{hubKey, dockerHub, "index.docker.io", dockerHubHost}
	}
	return []string{registry, "https://" + registry, "https://" + registry + "/"}
}

// keys are the file's own names for a registry or a namespace of it, the exact one first.
func (f *authFile) keys(scope string) []string {
	var keys []string
	for _, k := range sortedKeys(f.auths) {
		if k == scope {
			keys = append([]string{k}, keys...)
		} else if plainKey(k) == scope {
			keys = append(keys, k)
		}
	}
	return keys
}

// plainKey is a key of auths as registry[/namespace]: older files have URLs.
func plainKey(key string) string {
	_, rest, ok := strings.Cut(key, "://")
	if !ok {
		rest = key
	}
	rest = strings.TrimSuffix(rest, "/")
	rest = strings.TrimSuffix(strings.TrimSuffix(rest, "/v1"), "/v2")
	host, path, _ := strings.Cut(rest, "/")
	if host == "index.docker.io" || host == dockerHubHost {
		host = dockerHub
	}
	if path == "" {
		return host
	}
	return host + "/" + path
}

// authEntry is what a file keeps for one key.
type authEntry struct {
	Auth          string `json:"auth,omitempty"` // base64 of user:password
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// credential decodes an entry. No error of it has any of the secret.
func (a authEntry) credential() (credential, error) {
	cred := credential{user: a.Username, secret: a.Password, identity: a.IdentityToken, access: a.RegistryToken}
	if a.Auth == "" {
		return cred, nil
	}
	raw, err := base64.StdEncoding.DecodeString(a.Auth)
	user, secret, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return credential{}, fmt.Errorf("its auth is not base64 of USER:PASSWORD: %w", errdef.ErrInvalid)
	}
	cred.user, cred.secret = user, strings.TrimRight(secret, "\x00")
	return cred, nil
}
