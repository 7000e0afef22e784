package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	toml "github.com/pelletier/go-toml/v2"

	"strata/internal/errdef"
)

// Strict reads a TOML document into what into points to. A key that has no place there is an error. Errors name file,
// line and key.
func Strict(file string, data []byte, into any) error {
	return explained(file, toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(into))
}

// Foreign is [Strict] for a file of another program, which may have keys that mean nothing here.
func Foreign(file string, data []byte, into any) error {
	return explained(file, toml.Unmarshal(data, into))
}

// explained adds file, line and key to a decoder's error.
func explained(file string, err error) error {
	if err == nil {
		return nil
	}
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		first := &strict.Errors[0]
		line, _ := first.Position()
		return fmt.Errorf("%s: line %d: key %q is not known here: %w", file, line, strings.Join(first.Key(), "."), errdef.ErrInvalid)
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, _ := decode.Position()
		return fmt.Errorf("%s: line %d: %s: %w", file, line, strings.TrimPrefix(decode.Error(), "toml: "), errdef.ErrInvalid)
	}
	return fmt.Errorf("%s: %w: %w", file, errdef.ErrInvalid, err)
}

// keysOf lists the keys that a document sets, tables by their entries.
func keysOf(data []byte) ([]string, error) {
	var doc map[string]any
	if err := toml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	var keys []string
	var walk func(prefix string, table map[string]any)
	walk = func(prefix string, table map[string]any) {
		for name, v := range table {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+name+".", sub)
				continue
			}
			keys = append(keys, prefix+name)
		}
	}
	walk("", doc)
	return keys, nil
}

// value is one key with what it is set to.
type value struct{ key, text string }

// values lists the keys of a configuration by its fields' names.
func values(c *Config) []value {
	var all []value
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("toml")
			if name == "" {
				continue
			}
			switch f := v.Field(i); f.Kind() {
			case reflect.Struct:
				walk(prefix+name+".", f)
			case reflect.Map:
				table := f.Interface().(map[string]string)
				for _, key := range slices.Sorted(maps.Keys(table)) {
					all = append(all, value{prefix + name + "." + key, table[key]})
				}
			default:
				all = append(all, value{prefix + name, text(f)})
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return all
}

// text is a value for people.
func text(v reflect.Value) string {
	if v.Kind() != reflect.Slice {
		return fmt.Sprint(v.Interface())
	}
	var parts []string
	for i := range v.Len() {
		parts = append(parts, fmt.Sprint(v.Index(i).Interface()))
	}
	return strings.Join(parts, ", ")
}

func compare(a, b string) int {
	// Keys before tables, as a file has them.
	return cmp.Or(cmp.Compare(strings.Count(a, "."), strings.Count(b, ".")), cmp.Compare(a, b))
}
