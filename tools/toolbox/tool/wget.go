package tool

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// wget fetches files by HTTP: -O FILE ("-" is standard output), -P DIRECTORY, -q, -T SECONDS, --header, --post-data,
// --spider, -t TRIES, --no-check-certificate.
func wget(p *Proc) error {
	o, urls, err := p.opts("qO:P:T:t:H:D:kx", "quiet=q", "output-document=O", "directory-prefix=P", "timeout=T", "tries=t", "header=H", "post-data=D",
		"no-check-certificate=k", "spider=x")
	if err != nil {
		return err
	}
	if err := need(urls, 1); err != nil {
		return err
	}
	limit, err := seconds(o.last('T', "900"))
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.has('k') {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	client := &http.Client{Transport: transport, Timeout: limit}
	tries, err := strconv.Atoi(o.last('t', "1"))
	if err != nil {
		return err
	}
	for _, url := range urls {
		if !strings.Contains(url, "://") {
			url = "http://" + url
		}
		err := p.fetch(client, o, url)
		for try := 1; err != nil && try < tries; try++ {
			time.Sleep(time.Second)
			err = p.fetch(client, o, url)
		}
		if err != nil {
			p.warn(err)
		}
	}
	return nil
}

func (p *Proc) fetch(client *http.Client, o opts, url string) error {
	method, body := http.MethodGet, io.Reader(nil)
	if o.has('D') {
		method, body = http.MethodPost, strings.NewReader(o.last('D', ""))
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	if o.has('D') {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range o['H'] {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if o.has('x') {
		return nil
	}
	name := o.last('O', path.Base(req.URL.Path))
	if name == "." || name == "/" {
		name = "index.html"
	}
	if name == "-" {
		_, err := io.Copy(p.Out, resp.Body)
		return err
	}
	if !o.has('O') {
		name = filepath.Join(o.last('P', "."), name)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, resp.Body)
	if err = errors.Join(err, f.Close()); err == nil && !o.has('q') {
		fmt.Fprintf(p.Err, "%s: %d bytes\n", name, n)
	}
	return err
}
