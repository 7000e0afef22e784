package container

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"strata/internal/config"
	"strata/internal/errdef"
)

// LogConfig says how the container's output is kept.
type LogConfig struct {
	// Driver is "json-file" (also when empty), "local", which here is the same with other bounds, or "none".
	Driver string `json:",omitempty"`
	// MaxSize in bytes starts a new file (0: 10 MiB, negative: never); MaxFiles are kept (0: 3).
	MaxSize  int64 `json:",omitempty"`
	MaxFiles int   `json:",omitempty"`
	// Labels and Env name what of the container's labels and environment stands with each entry.
	Labels []string `json:",omitempty"`
	Env    []string `json:",omitempty"`
	// Options are the options as they were given.
	Options map[string]string `json:",omitempty"`
}

func (c LogConfig) check() error {
	switch c.Driver {
	case "json-file", "local", "none":
		return nil
	}
	return errdef.WithHint(fmt.Errorf("logger: no log driver named '%s' is registered: %w", c.Driver, errdef.ErrUnsupported),
		"there are json-file, local and none; what ships logs elsewhere reads them by strata logs -f, or the files of json-file")
}

// ParseLog reads --log-driver and --log-opt.
func ParseLog(driver string, opts map[string]string) (LogConfig, error) {
	c := LogConfig{Driver: driver, Options: opts}
	if err := c.check(); err != nil {
		return c, err
	}
	if driver == "local" { // docker's bounds of it
		c.MaxSize, c.MaxFiles = 20<<20, 5
	}
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		if err := c.set(key, opts[key]); err != nil {
			return c, fmt.Errorf("log option %s=%s: %w", key, opts[key], err)
		}
	}
	return c, nil
}

func (c *LogConfig) set(key, value string) (err error) {
	if c.Driver == "none" {
		return fmt.Errorf("log driver none has no options: %w", errdef.ErrInvalid)
	}
	words := func() []string {
		return slices.DeleteFunc(strings.Split(value, ","), func(s string) bool { return s == "" })
	}
	switch key {
	case "max-size":
		if value == "-1" {
			c.MaxSize = -1
			return nil
		}
		if c.MaxSize, err = config.ParseSize(value); err == nil && c.MaxSize == 0 {
			err = fmt.Errorf("want a size, or -1 for no bound: %w", errdef.ErrInvalid)
		}
	case "max-file":
		if c.MaxFiles, err = strconv.Atoi(value); err != nil || c.MaxFiles < 1 {
			err = fmt.Errorf("want the number of files to keep, at least 1: %w", errdef.ErrInvalid)
		}
	case "labels":
		c.Labels = words()
	case "env":
		c.Env = words()
	case "compress":
		if value != "false" {
			err = errdef.WithHint(fmt.Errorf("old files are kept as they are, so that logs -f can go on in them: %w", errdef.ErrUnsupported), "leave it out, or say compress=false")
		}
	case "mode":
		if value != "blocking" {
			err = errdef.WithHint(fmt.Errorf("a log that forgets what comes too quickly is not kept here: %w", errdef.ErrUnsupported), "leave it out, or say mode=blocking")
		}
	default:
		err = errdef.WithHint(fmt.Errorf("unknown log opt for the %s log driver: %w", c.Driver, errdef.ErrInvalid), "there are max-size, max-file, labels and env")
	}
	return err
}

// attributes is what stands with each entry of a container's log.
func (c LogConfig) attributes(conf Config) map[string]string {
	attrs := map[string]string{}
	for _, name := range c.Labels {
		if v, ok := conf.Labels[name]; ok {
			attrs[name] = v
		}
	}
	for _, name := range c.Env {
		for _, e := range conf.Env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				attrs[name] = v
			}
		}
	}
	return attrs
}
