# SPDX-License-Identifier: Apache-2.0
"""What finished runs tell: one page for a browser, one table for a terminal.

In: run folders. Out: HTML with inline SVG, and text. Nothing here trains, and nothing is fetched from anywhere.
"""
