package remote

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

const maxAuthFile = 16 << 20

// authFile is docker's config.json or podman's auth.json. What is not about credentials is kept as it is.
type authFile struct {
	path        string
	content     map[string]json.RawMessage
	rawAuths    map[string]json.RawMessage
	auths       map[string]authEntry
	credsStore  string
	credHelpers map[string]string
}

func readAuthFile(name string) (*authFile, error) {
	data, err := readFile(name, maxAuthFile)
	if err != nil {
		return nil, err
	}
	return parseAuthFile(name, data)
}

func parseAuthFile(name string, data []byte) (*authFile, error) {
	f := &authFile{path: name, content: map[string]json.RawMessage{}, rawAuths: map[string]json.RawMessage{}, auths: map[string]authEntry{}}
	if len(bytes.TrimSpace(data)) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(data, &f.content); err != nil {
		return nil, fmt.Errorf("%s: not a JSON object: %w", name, errdef.ErrInvalid)
	}
	for key, into := range map[string]any{"auths": &f.rawAuths, "credsStore": &f.credsStore, "credHelpers": &f.credHelpers} {
		if raw, ok := f.content[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, fmt.Errorf("%s: key %q has another form than it should: %w", name, key, errdef.ErrInvalid)
			}
		}
	}
	for key, raw := range f.rawAuths {
		var entry authEntry
		if err := json.Unmarshal(raw, &entry); err != nil {
			return nil, fmt.Errorf("%s: auths: %.200q has another form than it should: %w", name, key, errdef.ErrInvalid)
		}
		f.auths[key] = entry
	}
	if f.content == nil {
		f.content = map[string]json.RawMessage{}
	}
	if f.rawAuths == nil {
		f.rawAuths = map[string]json.RawMessage{}
	}
	return f, nil
}

// changeAuthFile lets change work on the file and publishes what it made of it, if that reports a change. Logins at the
// same time wait for each other. A link stays a link.
func changeAuthFile(name string, change func(*authFile) (changed bool, err error)) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := readAuthFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = parseAuthFile(name, nil)
	}
	if err != nil {
		return err
	}
	changed, err := change(f)
	if err != nil || !changed {
		return err
	}
	data, err := f.encode()
	if err != nil {
		return err
	}
	return atomicfile.WriteDurable(name, data, 0o600)
}

// lockDir locks a directory itself: a lock file would stay in it.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		d.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { d.Close() }, nil
}

// put sets an entry; the zero entry is only a mark that a helper has the secret.
func (f *authFile) put(key string, entry authEntry) error {
	raw, err := json.Marshal(entry)
	f.rawAuths[key] = raw
	return err
}

// drop removes all entries for a registry, under whatever name, and reports whether there were any.
func (f *authFile) drop(registry string) bool {
	keys := f.keys(registry)
	for _, k := range keys {
		delete(f.rawAuths, k)
	}
	return len(keys) > 0
}

// encode is the file in docker's layout: indented with tabs.
func (f *authFile) encode() ([]byte, error) {
	var auths bytes.Buffer
	if err := encodeJSON(&auths, f.rawAuths, ""); err != nil {
		return nil, err
	}
	f.content["auths"] = auths.Bytes()
	var all bytes.Buffer
	err := encodeJSON(&all, f.content, "\t")
	return all.Bytes(), err
}

func encodeJSON(to *bytes.Buffer, v any, indent string) error {
	enc := json.NewEncoder(to)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

func basicAuth(user, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))
}
