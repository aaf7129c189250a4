// GET one URL through a proxy with net/http: client PROXY URL; PROXY may be "environment".
// Prints the status, the Host that the target saw, and the body.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

func fetch(proxy, target string) error {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if proxy != "environment" {
		address, err := url.Parse(proxy)
		if err != nil {
			return err
		}
		transport.Proxy = http.ProxyURL(address)
	}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	response, err := client.Get(target)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%d %s %s", response.StatusCode, response.Header.Get("X-Host"), body)
	return nil
}

func main() {
	if err := fetch(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
