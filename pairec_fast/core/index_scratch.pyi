class SearchScratch:
    k_max: int
    effort_max: int
