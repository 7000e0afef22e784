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

// mostLogBuffer bounds what a shim holds for a slow disk.
const mostLogBuffer = 256 << 20

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
	// Compress says that older files are kept compressed.
	Compress bool `json:",omitempty"`
	// NonBlocking: the container does not wait for the disk, and what it writes while MaxBuffer bytes wait (0: 1 MiB) is lost.
	NonBlocking bool `json:",omitempty"`
	MaxBuffer   int  `json:",omitempty"`
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
		c.MaxSize, c.MaxFiles, c.Compress = 20<<20, 5, true
	}
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		if err := c.set(key, opts[key]); err != nil {
			return c, fmt.Errorf("log option %s=%s: %w", key, opts[key], err)
		}
	}
	return c, c.conflict()
}

// conflict says which of the options do not go together.
func (c LogConfig) conflict() error {
	asked := c.Options["compress"] != ""
	switch {
	case c.MaxBuffer > 0 && !c.NonBlocking:
		return fmt.Errorf("logger: max-buffer-size option is only supported with 'mode=non-blocking': %w", errdef.ErrInvalid)
	case c.Compress && asked && (c.MaxFiles == 1 || c.MaxSize < 0):
		return errdef.WithHint(fmt.Errorf("compress cannot be true when max-file is less than 2 or max-size is not set: %w", errdef.ErrInvalid),
			"compressed are the older files: --log-opt max-size=10m --log-opt max-file=3 --log-opt compress=true")
	}
	return nil
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
		if c.Compress, err = strconv.ParseBool(value); err != nil {
			err = fmt.Errorf("want true or false: %w", errdef.ErrInvalid)
		}
	case "mode":
		if c.NonBlocking = value == "non-blocking"; !c.NonBlocking && value != "blocking" {
			err = fmt.Errorf("logger: logging mode not supported, there are blocking and non-blocking: %w", errdef.ErrInvalid)
		}
	case "max-buffer-size":
		var n int64
		if n, err = config.ParseSize(value); err == nil && (n < 1 || n > mostLogBuffer) {
			err = fmt.Errorf("want a size from 1 byte to %d MiB: %w", mostLogBuffer>>20, errdef.ErrInvalid)
		}
		c.MaxBuffer = int(n)
	default:
		err = errdef.WithHint(fmt.Errorf("unknown log opt for the %s log driver: %w", c.Driver, errdef.ErrInvalid), "there are max-size, max-file, compress, mode, max-buffer-size, labels and env")
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
