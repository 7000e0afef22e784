package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// environment reads the --env-file files, then the -e values over them, as docker does: NAME=value sets, NAME alone takes
// the value from here and is left out when there is none.
func environment(files, values []string) ([]string, error) {
	var env []string
	for _, name := range files {
		lines, err := variables(name)
		if err != nil {
			return nil, err
		}
		env = append(env, lines...)
	}
	for _, v := range values {
		set, ok, err := variable(v)
		if err != nil {
			return nil, usagef("--env: %w", err)
		}
		if ok {
			env = append(env, set)
		}
	}
	return env, nil
}

func variable(v string) (set string, ok bool, err error) {
	name, _, has := strings.Cut(v, "=")
	if name == "" || strings.ContainsAny(name, "\x00") {
		return "", false, fmt.Errorf("%q is no NAME or NAME=value", v)
	}
	if has {
		return v, true, nil
	}
	value, ok := os.LookupEnv(name)
	return name + "=" + value, ok, nil
}

func variables(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	defer f.Close()
	var env []string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(strings.TrimPrefix(lines.Text(), "\ufeff"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		if strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("--env-file %s:%d: variable %q contains white space", file, n, name)
		}
		set, ok, err := variable(line)
		if err != nil {
			return nil, fmt.Errorf("--env-file %s:%d: %w", file, n, err)
		}
		if ok {
			env = append(env, set)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--env-file %s: %w", file, err)
	}
	return env, nil
}

// keyValues reads KEY=VALUE flags; KEY alone has the empty value.
func keyValues(flag string, values []string) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(values))
	for _, v := range values {
		key, value, _ := strings.Cut(v, "=")
		if key == "" {
			return nil, usagef("--%s %q: want KEY=VALUE", flag, v)
		}
		m[key] = value
	}
	return m, nil
}
