package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Secret is a file that a container sees, and that is nowhere else: not in its layer, its record or an image made of it.
type Secret struct {
	ID     string
	Target string // absolute
	// Source is a file of the host, read anew at each start. Without one the value came with the command and is kept on the
	// tmpfs of running state until the container goes.
	Source   string `json:",omitempty"`
	Env      string `json:",omitempty"` // the variable it came from
	UID, GID int    `json:",omitempty"`
	Mode     uint32 `json:",omitempty"` // 0 is 0444

	Value []byte `json:"-"`
}

// secretsDir is where docker and BuildKit put secrets.
const secretsDir = "/run/secrets"

// maxSecret is docker's bound.
const maxSecret = 500 << 10

// ParseSecret reads "id=NAME[,src=FILE|,env=VARIABLE][,target=PATH][,uid=][,gid=][,mode=]", the syntax of build's --secret and
// mount=type=secret. lookup reads the environment.
func ParseSecret(spec string, lookup func(string) (string, bool)) (Secret, error) {
	var s Secret
	bad := func(format string, args ...any) (Secret, error) {
		return s, fmt.Errorf("secret %q: %s: %w", spec, fmt.Sprintf(format, args...), errdef.ErrInvalid)
	}
	for field := range strings.SplitSeq(spec, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return bad("%q: want KEY=VALUE", field)
		}
		err := s.set(key, value)
		if err != nil {
			return bad("%s: %v", key, err)
		}
	}
	if s.ID == "" || strings.ContainsAny(s.ID, "/\x00") || strings.HasPrefix(s.ID, ".") || s.UID < 0 || s.GID < 0 || s.Mode > 0o777 {
		return bad("want an id that is a plain name, and sensible numbers")
	}
	if s.Target == "" {
		s.Target = s.ID
	}
	if s.Target = path.Clean(s.Target); !path.IsAbs(s.Target) {
		s.Target = path.Join(secretsDir, s.Target)
	}
	return s, s.fetch(lookup)
}

// set reads one key of a secret.
func (s *Secret) set(key, value string) (err error) {
	switch key {
	case "id":
		s.ID = value
	case "src", "source":
		s.Source, err = filepath.Abs(value)
	case "env":
		s.Env = value
	case "type":
		if value != "file" && value != "env" {
			err = fmt.Errorf("%q: want file or env", value)
		}
	case "target", "dst", "destination":
		s.Target = value
	case "uid":
		_, err = fmt.Sscanf(value, "%d", &s.UID)
	case "gid":
		_, err = fmt.Sscanf(value, "%d", &s.GID)
	case "mode":
		_, err = fmt.Sscanf(value, "%o", &s.Mode)
	default:
		err = errors.New("there is no such key")
	}
	return err
}

// fetch finds what the secret is, as build does: the file, the variable, else the variable or the file that is called as it is.
func (s *Secret) fetch(lookup func(string) (string, bool)) error {
	if s.Source != "" && s.Env != "" {
		return fmt.Errorf("secret %s: src and env exclude each other: %w", s.ID, errdef.ErrInvalid)
	}
	if s.Source == "" {
		name := first(s.Env, s.ID)
		value, ok := lookup(name)
		if ok && len(value) <= maxSecret {
			s.Env, s.Value = name, []byte(value)
			return nil
		}
		if s.Env != "" || ok {
			return fmt.Errorf("secret %s: environment variable %s is not set, or larger than %d bytes: %w", s.ID, name, maxSecret, errdef.ErrInvalid)
		}
		abs, err := filepath.Abs(s.ID)
		if err != nil {
			return err
		}
		s.Source = abs
	}
	_, err := s.read()
	return err
}

func (s *Secret) read() ([]byte, error) {
	f, err := os.Open(s.Source)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s.ID, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(raw) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes: %w", s.Source, maxSecret, errdef.ErrLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s.ID, err)
	}
	return raw, nil
}

// checkSecrets refuses two for one place.
func checkSecrets(list []Secret) error {
	seen := map[string]bool{}
	for _, s := range list {
		if seen[s.Target] {
			return fmt.Errorf("secret %s: there are two for %s: %w", s.ID, s.Target, errdef.ErrInvalid)
		}
		seen[s.Target] = true
	}
	return nil
}

// secretStore is where values are kept that came with the command: on the tmpfs of running state, beside the containers'
// own directories, which are emptied at each end.
func (s *Store) secretStore(id string) string {
	return filepath.Join(s.opt.Place.Run, "secrets", ShortID(id))
}

func (s *Store) keepSecrets(rec Record) error {
	for _, sec := range rec.Host.Access.Secrets {
		if sec.Source != "" {
			continue
		}
		dir := s.secretStore(rec.ID)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("secrets: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, sec.ID), sec.Value, 0o600); err != nil {
			return fmt.Errorf("secrets: %w", err)
		}
	}
	return nil
}

// value is what the secret is now.
func (s *Store) secretValue(id string, sec Secret) ([]byte, error) {
	if sec.Source != "" {
		return sec.read()
	}
	raw, err := os.ReadFile(filepath.Join(s.secretStore(id), sec.ID))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errdef.WithHint(fmt.Errorf("secret %s: it came from the environment variable %s and was kept in memory only, which the machine's restart has emptied: %w", sec.ID, sec.Env, errdef.ErrUnavailable),
			"make the container anew, or give the secret by a file: --secret id="+sec.ID+",src=FILE")
	}
	return raw, err
}

// secrets writes the secrets into a tmpfs that only the calling goroutine's mount namespace has, and gives the mounts that
// show them.
func (s *Store) secrets(rec Record) ([]specs.Mount, error) {
	list := rec.Host.Access.Secrets
	if len(list) == 0 {
		return nil, nil
	}
	dir := filepath.Join(s.RunDir(rec.ID), "secrets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return nil, fmt.Errorf("secrets: tmpfs: %w", err)
	}
	mounts := []specs.Mount{}
	options := []string{"bind", "rprivate", "ro", "nosuid", "nodev", "noexec"}
	for i, sec := range list {
		value, err := s.secretValue(rec.ID, sec)
		if err != nil {
			return nil, err
		}
		name, inside := strings.CutPrefix(sec.Target, secretsDir+"/")
		file := filepath.Join(dir, "in", name)
		if !inside {
			file = filepath.Join(dir, fmt.Sprint(i))
			mounts = append(mounts, specs.Mount{Destination: sec.Target, Type: "bind", Source: file, Options: options})
		}
		if err := writeSecret(file, sec, value, rec.Host.Access.IDs); err != nil {
			return nil, fmt.Errorf("secret %s: %w", sec.ID, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "in")); err == nil {
		mounts = slices.Insert(mounts, 0, specs.Mount{Destination: secretsDir, Type: "bind", Source: filepath.Join(dir, "in"), Options: options})
	}
	return mounts, nil
}

func writeSecret(file string, sec Secret, value []byte, ids *IDs) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o444)
	if sec.Mode != 0 {
		mode = os.FileMode(sec.Mode)
	}
	if err := os.WriteFile(file, bytes.Clone(value), mode); err != nil {
		return err
	}
	uid, gid := ids.root()
	return errors.Join(os.Chown(file, uid+sec.UID, gid+sec.GID), os.Chmod(file, mode))
}
