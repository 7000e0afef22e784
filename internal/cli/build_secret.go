package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// maxBuildSecret bounds a secret, as BuildKit does, in bytes.
const maxBuildSecret = 500 << 10

// buildSecrets reads --secret: "id=NAME", with "src=FILE" or "env=VAR"; without either the variable NAME, else the file NAME.
func buildSecrets(specs []string) (map[string][]byte, error) {
	secrets := map[string][]byte{}
	for _, spec := range specs {
		fields, err := csv.NewReader(strings.NewReader(spec)).Read()
		if err != nil {
			return nil, usagef("--secret %q: %v", spec, err)
		}
		var id, src, env, kind string
		for _, field := range fields {
			key, value, ok := strings.Cut(field, "=")
			to := map[string]*string{"id": &id, "src": &src, "source": &src, "env": &env, "type": &kind}[strings.ToLower(key)]
			if to == nil || !ok {
				return nil, usagef("--secret %q: unexpected %q; want id=NAME,src=FILE or id=NAME,env=VAR", spec, field)
			}
			*to = value
		}
		if kind != "" && kind != "file" && kind != "env" {
			return nil, usagef("--secret %q: type %q: want file or env", spec, kind)
		}
		if kind == "env" && env == "" {
			env, src = src, ""
		}
		if id == "" || src != "" && env != "" {
			return nil, usagef("--secret %q: want id=NAME and one of src=FILE and env=VAR", spec)
		}
		if secrets[id], err = readSecret(id, src, env); err != nil {
			return nil, fmt.Errorf("--secret %s: %w", id, err)
		}
	}
	return secrets, nil
}

func readSecret(id, src, env string) ([]byte, error) {
	if src == "" {
		if value, ok := os.LookupEnv(env); ok {
			return []byte(value), nil
		}
		if env != "" {
			return nil, fmt.Errorf("environment variable %s: %w", env, errdef.ErrNotFound)
		}
		if value, ok := os.LookupEnv(id); ok {
			return []byte(value), nil
		}
		src = id
	}
	f, err := os.Open(src)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBuildSecret+1))
	if err == nil && len(raw) > maxBuildSecret {
		err = fmt.Errorf("%s: more than %d bytes: %w", src, maxBuildSecret, errdef.ErrLimit)
	}
	return raw, err
}

// buildAgents reads --ssh: "default", "NAME" or "NAME=SOCKET". Without a socket it is that of SSH_AUTH_SOCK.
func buildAgents(specs []string) (map[string]string, error) {
	agents := map[string]string{}
	for _, spec := range specs {
		id, socket, _ := strings.Cut(spec, "=")
		if socket == "" {
			socket = os.Getenv("SSH_AUTH_SOCK")
		}
		if id == "" {
			return nil, usagef("--ssh %q: want default or NAME[=SOCKET]", spec)
		}
		if socket == "" {
			return nil, usageError{errdef.WithHint(fmt.Errorf("--ssh %s: SSH_AUTH_SOCK is not set: there is no agent", id), "start one: eval $(ssh-agent) && ssh-add")}
		}
		var st unix.Stat_t
		if err := unix.Stat(socket, &st); err != nil {
			return nil, fmt.Errorf("--ssh %s: %s: %w", id, socket, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return nil, usageError{errdef.WithHint(fmt.Errorf("--ssh %s: %w", id, errors.New(socket+" is no agent's socket")), "load the key into an agent: ssh-add "+socket)}
		}
		agents[id] = socket
	}
	return agents, nil
}
